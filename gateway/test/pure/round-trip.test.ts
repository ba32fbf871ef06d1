// Tests that files with random names and values read back equal, however they are written, packed and cut into chunks.

import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { openSource } from '../../features/import/import-source.ts'
import { csv } from '../../features/import/sources/csv.ts'
import type { SourceFeature, SourceFormat } from '../../features/import/sources/source.ts'
import { ExactNumber, isWithinDouble } from '../../features/values/exact-json.ts'

const packings: Record<string, (text: string) => Buffer> = {
  plain: (text) => Buffer.from(text),
  marked: (text) => Buffer.from(`\ufeff${text}`),
  gzip: (text) => gzipSync(text),
  utf16le: (text) => Buffer.from(`\ufeff${text}`, 'utf16le'),
  utf16be: (text) => Buffer.from(`\ufeff${text}`, 'utf16le').swap16(),
}

/** Reads a text through all of the way that a pipe takes. */
async function read(text: string, packing: string, chunkBytes: number, format?: SourceFormat) {
  const bytes = packings[packing]!(text)
  const chunks = Array.from({ length: Math.ceil(bytes.length / chunkBytes) }, (_, index) =>
    bytes.subarray(index * chunkBytes, (index + 1) * chunkBytes),
  )
  const source = await openSource('-', Readable.from(chunks), { format })
  const features: SourceFeature[] = []
  for await (const batch of (await source.read(() => {})).features) features.push(...batch)
  return features
}

const ODD_TEXTS = [
  '',
  '__proto__',
  'constructor',
  'toString',
  'features',
  '"coordinates"',
  '"type":"FeatureCollection"',
]
const anyText = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.string({ unit: 'binary', maxLength: 12 }).filter((text) => text.isWellFormed()),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      ...ODD_TEXTS,
      'a\nb',
      'a"b',
      'a\\',
      ';',
      ',',
      '\t',
      '|',
      '\r\n',
      '\x1e',
      '\u2028',
    ),
  },
)
const digits = (maxLength: number) =>
  fc.string({ unit: fc.constantFrom(...'0123456789'), minLength: 1, maxLength })
const numberText = fc
  .tuple(fc.boolean(), digits(22), fc.option(digits(22)), fc.option(fc.integer({ min: -400, max: 400 })))
  .map(
    ([isNegative, whole, fraction, exponent]) =>
      `${isNegative ? '-' : ''}${whole.replace(/^0+(?=\d)/, '')}${fraction === null ? '' : `.${fraction}`}${exponent === null ? '' : `e${exponent}`}`,
  )
const packing = fc.constantFrom(...Object.keys(packings))
const chunkBytes = fc.integer({ min: 1, max: 60 })

/** A value, and its text in JSON. */
const value: fc.Arbitrary<{ text: string; check: (read: unknown) => void }> = fc.oneof(
  anyText.map((text) => ({
    text: JSON.stringify(text),
    check: (given: unknown) => assert.equal(given, text),
  })),
  numberText.map((text) => ({
    text,
    check: (given: unknown) => {
      if (given instanceof ExactNumber) assert.equal(given.text, text)
      else {
        assert.equal(given, Number(text))
        assert.ok(isWithinDouble(text), `${text} has lost digits`)
      }
    },
  })),
  fc
    .jsonValue({ noUnicodeString: false })
    .map((json) => JSON.stringify(json))
    .map((text) => ({ text, check: (given: unknown) => assert.equal(JSON.stringify(given), text) })),
)

test('GeoJSON with any names and values reads back equal, as a collection, an array and sequences', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uniqueArray(fc.tuple(anyText, value), { selector: ([name]) => name, maxLength: 5 }), {
        minLength: 1,
        maxLength: 4,
      }),
      fc.constantFrom('collection', 'array', 'lines', 'records'),
      fc.constantFrom('"features"', '"\\u0066eatures"'),
      packing,
      chunkBytes,
      async (rows, shape, member, packed, cut) => {
        const features = rows.map(
          (row) =>
            `{"type":"Feature","properties":{${row.map(([name, { text }]) => `${JSON.stringify(name)}:${text}`).join()}},"geometry":{"type":"Point","coordinates":[1.234567890123456789,2]}}`,
        )
        const text = {
          collection: `{"more":[{"features":[1]}],${member}:[${features.join(',\n')}],"type":"FeatureCollection"}`,
          array: `[${features.join()}]`,
          lines: features.map((feature) => `${feature}\n`).join(''),
          records: features.map((feature) => `\x1e{\n${feature.slice(1)}\n`).join(''),
        }[shape]
        const found = await read(text, packed, cut)
        assert.equal(found.length, rows.length)
        for (const [index, row] of rows.entries()) {
          const { properties, problem } = found[index]!
          assert.equal(problem, undefined)
          const entries = new Map(Object.entries(properties!))
          assert.equal(entries.size, row.length)
          for (const [name, { check }] of row) check(entries.get(name))
        }
      },
    ),
    { numRuns: 150 },
  )
})

test('CSV with any names and values reads back equal, with any delimiter and line break', async () => {
  const name = anyText
    .map((text) => text.trim())
    .filter((text) => text !== '' && !/^(lon|lng|long|longitude|x|lat|latitude|y)$/i.test(text))
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(name, { minLength: 1, maxLength: 5 }).chain((names) =>
        fc.record({
          names: fc.constant(names),
          rows: fc.array(fc.array(anyText, { minLength: names.length, maxLength: names.length }), {
            minLength: 1,
            maxLength: 4,
          }),
        }),
      ),
      fc.constantFrom(',', ';', '\t', '|'),
      fc.constantFrom('\n', '\r\n', '\r'),
      fc.boolean(),
      packing,
      chunkBytes,
      async ({ names, rows }, delimiter, lineBreak, isNamed, packed, cut) => {
        const cell = (text: string) => (/[",;\t|\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)
        const line = (cells: readonly string[]) => `${cells.map(cell).join(delimiter)}${lineBreak}`
        const text =
          (isNamed ? `sep=${delimiter}${lineBreak}` : '') +
          line(['lon', 'lat', ...names]) +
          rows.map((row) => line(['1.5', '-2', ...row])).join('')
        const found = await read(text, packed, cut, csv)
        assert.deepEqual(
          found.map(({ geometry }) => geometry),
          rows.map(() => ({ type: 'Point', coordinates: [1.5, -2] })),
        )
        assert.deepEqual(
          found.map(({ properties }) => new Map(Object.entries(properties!))),
          // Without its quotes, an empty text is the same as none.
          rows.map(
            (row) => new Map(names.map((one, index) => [one, row[index] === '' ? null : row[index]!])),
          ),
        )
      },
    ),
    { numRuns: 150 },
  )
})
