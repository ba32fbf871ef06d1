// Tests what the processes of a gateway load: each package takes time of the start, and memory while they run.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'

const commands = pathToFileURL(`${import.meta.dirname}/../../commands/`).href

/** Returns how many files of each package are loaded with a module, and Node's own modules under their names. */
async function packagesOf(modules: readonly string[]): Promise<Readonly<Record<string, number>>> {
  const program = `
    import { registerHooks } from 'node:module'
    const urls = new Set()
    registerHooks({ load: (url, context, next) => (urls.add(url), next(url, context)) })
    for (const name of ${JSON.stringify(modules)}) await import('${commands}' + name)
    process.stdout.write(JSON.stringify([...urls, ...process.moduleLoadList]), () => process.exit())`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', program], {
    maxBuffer: 1 << 24,
  })
  const counts: Record<string, number> = {}
  for (const url of JSON.parse(stdout) as string[]) {
    const [, name] = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)|^NativeModule (.*)/.exec(url) ?? []
    const shown = name ?? url.replace('NativeModule ', '')
    counts[shown] = (counts[shown] ?? 0) + 1
  }
  return counts
}

test('a process that serves loads neither what generates documents and serializers nor a query builder', async () => {
  const counts = await packagesOf(['serve-requests.ts'])
  assert.ok(counts.fastify! > 10 && counts.pg! > 10)
  for (const name of [
    '@fastify/swagger',
    'yaml',
    'typebox',
    '@opentelemetry/api',
    'cli-progress',
    'csv-parse',
    'hyparquet-writer',
    'jose',
    'oauth4webapi',
  ])
    assert.equal(counts[name], undefined, name)
  // Its files are for browsers; the gateway reads its version.
  assert.equal(counts['@fastify/swagger-ui'], 1)
  assert.equal(counts['internal/deps/undici/undici'], undefined)
  assert.ok(counts['drizzle-orm']! < 50, `${counts['drizzle-orm']} files of drizzle`)
})

test('the process that watches loads the log alone', async () => {
  const counts = await packagesOf(['serve.ts', '../log.ts'])
  assert.ok(counts.pino! > 1)
  for (const name of ['fastify', 'pg', 'drizzle-orm', 'typebox', 'cli-progress'])
    assert.equal(counts[name], undefined, name)
})
