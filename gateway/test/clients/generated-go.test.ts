// Tests that the document serves a generator that nobody has prepared it for: openapi-generator makes a client in Go.

import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { DOCUMENT_FILE } from '../../../openapi/document.ts'
import { startGateway } from '../support/gateway.ts'

const GENERATOR = 'openapi-generator-cli==7.26.0'
/** In Go, `NewFeature` creates a `Feature`, so that no type may have this name. */
const NAMES = {
  NewApiKey: 'ApiKeyDefinition',
  NewCollection: 'CollectionDefinition',
  NewCollection_distribution: 'DefinitionDistribution',
  NewFeature: 'FeatureBody',
  NewFeatures: 'FeaturesBody',
  NewGeometry: 'GeometryBody',
}

const { client, session, catalog } = await startGateway()
const folder = mkdtempSync(join(tmpdir(), 'tessera-go-'))
after(() => rmSync(folder, { recursive: true, force: true }))
const run = (program: string, args: readonly string[], cwd = folder) =>
  promisify(execFile)(program, args, { cwd, maxBuffer: 1 << 26 })

const missing = [
  ['java', '-version'],
  ['go', 'version'],
  ['python3', '-m', 'pip', '--version'],
].filter(([program, ...args]) => spawnSync(program!, args).status !== 0)
const skip =
  missing.length > 0 && `SKIPPED: ${missing.map(([name]) => name)} not installed: no client was generated`
if (skip) process.stderr.write(`\n*** ${skip} ***\n\n`)

test('a client that openapi-generator makes in Go reads, changes under a condition and removes', {
  skip,
}, async () => {
  await session.query(`
    create table go_places (id int generated always as identity primary key, geom geometry(Point, 4326), name text);
    comment on table go_places is 'Places';
    insert into go_places (geom, name) select st_setsrid(st_makepoint(i, 5), 4326), 'n' from generate_series(0, 100) i`)
  await catalog.reload()
  // Its package for Python has the program for Java.
  await run('python3', ['-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', folder, GENERATOR])
  const wheel = `${GENERATOR.replaceAll('-', '_').replace('==', '-')}-py3-none-any.whl`
  await run('python3', ['-m', 'zipfile', '-e', wheel, 'generator'])
  const jar = join(folder, 'generator/openapi_generator_cli/openapi-generator.jar')
  const document = fileURLToPath(DOCUMENT_FILE)
  const names = Object.entries(NAMES).map((pair) => pair.join('='))
  await run('java', [
    ...['-jar', jar, 'generate', '-g', 'go', '-i', document, '-o', 'client'],
    ...['--git-user-id', 'tessera', '--git-repo-id', 'client', '--model-name-mappings', names.join(',')],
    ...[
      '--additional-properties',
      'packageName=tessera',
      '--global-property',
      'apiTests=false,modelTests=false',
    ],
  ])
  const made = join(folder, 'client')
  mkdirSync(join(made, 'trial'))
  copyFileSync(join(import.meta.dirname, 'trial.go'), join(made, 'trial/main.go'))
  const { stdout } = await run('go', ['run', './trial', client.url, 'go_places'], made)
  assert.deepEqual(stdout.trim().split('\n'), [
    'collection go_places',
    'features 99',
    'made 102 [1.23456789 2.5]',
    'changed newer',
    'refused 412 feature-changed',
    'removed 404',
  ])
})
