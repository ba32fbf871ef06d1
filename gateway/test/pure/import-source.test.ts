// Tests how a source is opened: what is read before its format is chosen, and sources that cannot be read.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { after, test } from 'node:test'
import { ImportError } from '../../features/import/import-error.ts'
import { openSource } from '../../features/import/import-source.ts'
import { csv } from '../../features/import/sources/csv.ts'

const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
after(() => rmSync(folder, { recursive: true, force: true }))

/** Standard input that delivers these chunks, and fails then if there is an error. */
const inputOf = (chunks: Iterable<string>, error?: Error) =>
  Readable.from(
    (async function* () {
      for (const chunk of chunks) yield Buffer.from(chunk)
      if (error) throw error
    })(),
  )
/** A row of CSV of one kilobyte. */
const longRow = `${'x'.repeat(995)},2,3\n`
const failure = (code: string, text = 'it failed') => Object.assign(new Error(`${code}: ${text}`), { code })

async function readAll(input: Readable, format?: typeof csv) {
  const source = await openSource('-', input, { format })
  const features = []
  for await (const batch of (await source.read()).features) features.push(...batch)
  return { features, bytesRead: source.bytesRead() }
}

const refused = (message: RegExp) => (error: Error) => {
  assert.match(error.message, message)
  assert.ok(error instanceof ImportError, 'not an ImportError')
  return true
}

test('a file that cannot be opened is refused with a sentence', async () => {
  const open = (name: string) => openSource(name, inputOf([]), {})
  await assert.rejects(
    open(join(folder, 'missing.csv')),
    refused(/missing\.csv cannot be read \(ENOENT\)\.$/),
  )
  await assert.rejects(open(folder), refused(/ is a folder; name a file in it\.$/))
  const empty = join(folder, 'empty.csv')
  writeFileSync(empty, '')
  await assert.rejects(open(empty), refused(/empty\.csv is empty\.$/))
})

test('a source that cannot be read from its start or later is refused with a sentence', async () => {
  await assert.rejects(
    readAll(inputOf([], failure('EISDIR'))),
    refused(/^Standard input cannot be read \(EISDIR\)/),
  )
  await assert.rejects(
    readAll(inputOf([], failure('EACCES'))),
    refused(/^Standard input cannot be read \(EACCES\)/),
  )
  const long = ['n,x,y\n', ...Array.from({ length: 40 }, () => longRow.repeat(60))]
  for (const format of [csv, undefined])
    await assert.rejects(
      readAll(inputOf(long, failure('EIO')), format),
      refused(/^Standard input cannot be read \(EIO\)\.$/),
    )
})

test('a programming error is not taken for a source that cannot be read', async () => {
  await assert.rejects(readAll(inputOf([], new TypeError('a bug'))), { name: 'TypeError', message: 'a bug' })
})

test('a pipe that writes little at a time gets the same format as a file', async () => {
  const point = (n: number) =>
    JSON.stringify({ type: 'Feature', geometry: { type: 'Point', coordinates: [1, 2] }, properties: { n } })
  const sources = [
    `${point(1)}\n${point(2)}\n`,
    `{"type":"FeatureCollection","features":[${point(1)},${point(2)}]}`,
    '{"type":"Topology","arcs":[],"objects":{"x":{"type":"GeometryCollection","geometries":[{"type":"Point","coordinates":[1,2],"properties":{"n":1}},{"type":"Point","coordinates":[1,2],"properties":{"n":2}}]}}}',
    'n;lon;lat\n1;1;2\n2;1;2\n',
    `  ${point(1)}\n${point(2)}\n`,
  ]
  for (const text of sources)
    for (const length of [1, 3, 50]) {
      const chunks = text.match(new RegExp(`[^]{1,${length}}`, 'gu'))!
      const { features, bytesRead } = await readAll(inputOf(chunks))
      assert.deepEqual(
        features.map(({ problem, properties }) => problem ?? Number(properties!.n)),
        [1, 2],
        text,
      )
      assert.equal(bytesRead, Buffer.byteLength(text))
    }
})

test('only the first bytes of a long source are read before its format is chosen', async () => {
  let pulled = 0
  const rows = (function* () {
    yield 'n,lon,lat\n'
    for (; pulled < 40; pulled++) yield longRow.repeat(60)
  })()
  const source = await openSource('-', inputOf(rows), {})
  assert.ok(pulled > 10 && pulled < 30, `${pulled} chunks of 60 kB`)
  let features = 0
  for await (const batch of (await source.read()).features) features += batch.length
  assert.equal(features, 40 * 60)
})
