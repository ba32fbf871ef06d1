// Tests how a source is opened: what is read before its format is chosen, and sources that cannot be read.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
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
  for await (const batch of (await source.read(() => {})).features) features.push(...batch)
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
  for await (const batch of (await source.read(() => {})).features) features += batch.length
  assert.equal(features, 40 * 60)
})

const FEATURES =
  '{"type":"FeatureCollection","features":[{"type":"Feature","geometry":null,"properties":{"n":"Zürich 😀"}}]}'
const utf16 = (text: string, isBig = false) => {
  const bytes = Buffer.from(`\ufeff${text}`, 'utf16le')
  return isBig ? bytes.swap16() : bytes
}
const piecesOf = (bytes: Buffer, length: number) =>
  Readable.from(
    Array.from({ length: Math.ceil(bytes.length / length) }, (_, index) =>
      bytes.subarray(index * length, (index + 1) * length),
    ),
  )

test('gzip, UTF-16 and byte order marks are understood by their bytes, from files and pipes', async () => {
  const sources: [string, Buffer][] = [
    ['gzip', gzipSync(FEATURES)],
    ['gzip in two members', Buffer.concat([gzipSync(FEATURES.slice(0, 50)), gzipSync(FEATURES.slice(50))])],
    ['gzip packed twice', gzipSync(gzipSync(FEATURES))],
    ['UTF-16LE', utf16(FEATURES)],
    ['UTF-16BE', utf16(FEATURES, true)],
    ['UTF-16 in gzip', gzipSync(utf16(FEATURES))],
    ['UTF-8 with a mark', Buffer.from(`\ufeff${FEATURES}`)],
    ['UTF-8 with a mark in gzip', gzipSync(`\ufeff${FEATURES}`)],
    ['CSV in UTF-16, as spreadsheets write it', utf16('n\tlon\tlat\r\nZürich 😀\t1\t2\r\n')],
    ['CSV with a mark', Buffer.from('\ufeffn,lon,lat\nZürich 😀,1,2\n')],
    [
      'a sequence with a mark',
      Buffer.from('\ufeff{"type":"Feature","geometry":null,"properties":{"n":"Zürich 😀"}}\n'),
    ],
  ]
  for (const [what, bytes] of sources) {
    for (const length of [1, 3, 1000]) {
      const { features, bytesRead } = await readAll(piecesOf(bytes, length))
      assert.deepEqual(
        features.map(({ problem, properties }) => problem ?? properties!.n),
        ['Zürich 😀'],
        what,
      )
      assert.equal(bytesRead, bytes.length)
    }
    // Neither the name nor its extension matters.
    const file = join(folder, 'source.dat')
    writeFileSync(file, bytes)
    const opened = await openSource(file, inputOf([]), {})
    let count = 0
    for await (const batch of (await opened.read(() => {})).features) count += batch.length
    assert.equal(count, 1, what)
  }
})

test('data that breaks off, is damaged or is packed in another way is refused with a sentence', async () => {
  const long = gzipSync(FEATURES + ' '.repeat(1000) + Array.from({ length: 5000 }, (_, n) => n).join())
  const damaged = Buffer.from(long)
  damaged.fill(0xff, 200, 300)
  const refusals: [Buffer, RegExp][] = [
    [long.subarray(0, long.length / 2), /^Standard input breaks off: its gzip data has no end/],
    [damaged, /^Standard input is damaged: its gzip data/],
    [Buffer.from('PK\x03\x04....'), /is a ZIP archive; unpack it first, for example with unzip/],
    [Buffer.from('28b52ffd00', 'hex'), /is packed by Zstandard/],
    [utf16(FEATURES).subarray(2), /UTF-16 without a byte order mark.*iconv -f utf-16le/],
    [utf16(FEATURES, true).subarray(2), /UTF-16 without a byte order mark.*iconv -f utf-16be/],
    [Buffer.from('fffe00007b000000', 'hex'), /UTF-32/],
    [Buffer.from('0000007b00000022', 'hex'), /UTF-32/],
    [Buffer.concat([utf16('{"a":"'), Buffer.from([0x3d, 0xd8, 0x22, 0x00])]), /is not valid UTF-16LE/],
    [gzipSync(''), /is empty/],
  ]
  for (const [bytes, reason] of refusals) await assert.rejects(readAll(piecesOf(bytes, 64)), refused(reason))
})

test('a source that is unpacked grows in the pipe only as fast as it is read', async () => {
  let pulled = 0
  const source = (function* () {
    const row = gzipSync(longRow.repeat(1000))
    yield gzipSync('n,lon,lat\n')
    for (; pulled < 100; pulled++) yield row
  })()
  const opened = await openSource('-', Readable.from(source), {})
  await sleep(100)
  assert.ok(pulled < 100, `${pulled} megabytes were unpacked for the first one`)
  let features = 0
  for await (const batch of (await opened.read(() => {})).features) features += batch.length
  assert.equal(features, 100_000)
})
