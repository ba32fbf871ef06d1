// Owns `npm run python`: makes the wheel of the Python client. It generates most of its code from openapi.json, and the
// synchronous client from the asynchronous one; neither is kept in the repository.

import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { DOCUMENT_FILE } from '../document.ts'

const run = promisify(execFile)

/** What builds the wheel, in an environment of its own. */
const BUILDERS = ['openapi-python-client==0.29.1', 'hatchling==1.33.0']
const FOLDER = import.meta.dirname
const PACKAGE = 'tessera_client'

/** Makes a virtual environment with these packages. @returns the folder of its programs */
export async function makeEnvironment(folder: string, packages: readonly string[]): Promise<string> {
  await run('python3', ['-m', 'venv', folder])
  const programs = join(folder, 'bin')
  const quiet = ['--quiet', '--disable-pip-version-check', '--no-input']
  await run(join(programs, 'pip'), ['install', ...quiet, ...packages], { maxBuffer: 1 << 24 })
  return programs
}

/** Builds the wheel. @param output the folder that gets it @returns its path */
export async function buildWheel(output: string): Promise<string> {
  const work = await mkdtemp(join(tmpdir(), 'tessera-python-'))
  try {
    const programs = await makeEnvironment(join(work, 'environment'), BUILDERS)
    const source = join(work, 'source')
    await mkdir(source)
    for (const name of ['pyproject.toml', 'README.md', PACKAGE])
      await cp(join(FOLDER, name), join(source, name), { recursive: true })
    const modules = join(source, PACKAGE)
    const client = await readFile(join(modules, 'asynchronous.py'), 'utf8')
    await writeFile(join(modules, 'synchronous.py'), withoutWaiting(client))
    const document = join(work, 'openapi.json')
    await writeFile(document, JSON.stringify(simplify(JSON.parse(await readFile(DOCUMENT_FILE, 'utf8')))))
    const settings = join(work, 'settings.yml')
    await writeFile(settings, 'literal_enums: true\npost_hooks: []\n')
    const generated = ['--meta', 'none', '--fail-on-warning', '--output-path', join(modules, 'generated')]
    await run(
      join(programs, 'openapi-python-client'),
      ['generate', '--path', document, '--config', settings, ...generated],
      { maxBuffer: 1 << 24 },
    )
    const build = ['-m', 'hatchling', 'build', '--target', 'wheel', '--directory', output]
    await rm(output, { recursive: true, force: true })
    await run(join(programs, 'python'), build, { cwd: source })
    const [wheel] = await readdir(output)
    return join(output, wheel!)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** Words of the asynchronous client, and what stands in their place in the synchronous one. */
const WORDS: readonly [RegExp, string][] = [
  [
    /Owns the asynchronous client\..*?"""/s,
    'Owns the synchronous client, which the build has derived from asynchronous.py."""',
  ],
  [/Iterable\[FeatureLike\] \| AsyncIterable\[FeatureLike\]/g, 'Iterable[FeatureLike]'],
  [/AsyncIterable, AsyncIterator, Iterable/g, 'Iterable, Iterator'],
  [/\basync def /g, 'def '],
  [/\bawait /g, ''],
  [/__aenter__/g, '__enter__'],
  [/__aexit__/g, '__exit__'],
  [/\baclose\b/g, 'close'],
  [/\basyncio_detailed\b/g, 'sync_detailed'],
  [/\basync_lines_of\b/g, 'lines_of'],
  [/\bset_async_httpx_client\b/g, 'set_httpx_client'],
  [/\bAsyncTransport\b/g, 'SyncTransport'],
  [/\bAsync(Tessera|Iterator|Client|HTTPTransport|BaseTransport)\b/g, '$1'],
]
const withoutWaiting = (client: string) =>
  WORDS.reduce((text, [word, other]) => text.replace(word, other), client)

type Content = Record<string, { schema?: Record<string, unknown> }>
type Operation = {
  security?: unknown
  parameters?: { schema: { default?: unknown } }[]
  requestBody?: { content: Content }
  responses: Record<string, { content?: Content }>
}
type Document = {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Record<string, unknown>> }
}

/**
 * Returns the document as the generator takes it: with one type of each body, and without default values, which it would
 * send. Geometries stay as GeoJSON has them, because that is what libraries of geometries take, and keys are sent by the
 * layer by hand, so that all functions take one kind of client.
 */
export function simplify(document: Document): Document {
  const { schemas } = document.components
  for (const name of ['Geometry', 'NewGeometry']) schemas[name] = { description: schemas[name]!.description }
  for (const operation of Object.values(document.paths).flatMap((path) => Object.values(path))) {
    for (const { schema } of operation.parameters ?? []) delete schema.default
    delete operation.security
    if (operation.requestBody) operation.requestBody.content = oneOf(operation.requestBody.content)
    for (const response of Object.values(operation.responses))
      if (response.content) response.content = oneOf(response.content)
  }
  return document
}

/** Returns the first type that is JSON, or else the first text, or else bytes. */
function oneOf(content: Content): Content {
  const types = Object.keys(content)
  const json = types.find((type) => /[/+]json$/.test(type))
  if (json) return { [json]: content[json]! }
  const text = types.find((type) => type.startsWith('text/'))
  if (text) return { [text]: content[text]! }
  return { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } }
}

if (process.argv[1] === import.meta.filename)
  process.stdout.write(`${await buildWheel(join(FOLDER, 'dist'))}\n`)
