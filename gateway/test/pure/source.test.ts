// Tests the formats that can be imported, however their bytes are split into chunks.

import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import fc from 'fast-check'
import { csv } from '../../features/import/sources/csv.ts'
import { FORMAT_TITLES } from '../../features/import/sources/format-name.ts'
import { FORMATS } from '../../features/import/sources/formats.ts'
import { geojson } from '../../features/import/sources/geojson.ts'
import { geojsonSeq } from '../../features/import/sources/geojson-seq.ts'
import {
  detectFormat,
  type SourceFeature,
  type SourceFormat,
  type SourceOptions,
} from '../../features/import/sources/source.ts'
import { topojson } from '../../features/import/sources/topojson.ts'

async function read(
  text: string | Buffer,
  format: SourceFormat,
  chunkBytes = 1 << 16,
  options: SourceOptions = {},
): Promise<SourceFeature[]> {
  const bytes = Buffer.from(text)
  const chunks = []
  for (let start = 0; start < bytes.length; start += chunkBytes)
    chunks.push(bytes.subarray(start, start + chunkBytes))
  const features: SourceFeature[] = []
  const input = { file: undefined, start: bytes.subarray(0, 1000), bytes: Readable.from(chunks) }
  const content = await format.read(input, options)
  for await (const batch of content.features) features.push(...batch)
  return features
}

const point = (name: unknown, x = 1, y = 2) => ({
  type: 'Feature',
  geometry: { type: 'Point', coordinates: [x, y] },
  properties: { name },
})

test('the features of a collection have the numbers of their lines', async () => {
  const text = `{"type":"FeatureCollection","name":"x","features":[\n${JSON.stringify(point('a'))},\n\n${JSON.stringify(point('b'))}\n],"more":{"features":[1]}}`
  const features = await read(text, geojson)
  assert.deepEqual(
    features.map(({ line, properties }) => [line, properties!.name]),
    [
      [2, 'a'],
      [4, 'b'],
    ],
  )
})

test('any text survives any split into chunks', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.string({ unit: 'binary' }), fc.boolean()), { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 1, max: 40 }),
      async (texts, cut) => {
        const wanted = texts.filter(([text]) => text.isWellFormed())
        const features = wanted.map(([text]) => point(text))
        const indent = texts[0]![1] ? 2 : undefined
        const collection = JSON.stringify({ type: 'FeatureCollection', features }, null, indent)
        const sequence = features
          .map((feature) => `${texts[0]![1] ? '\x1e' : ''}${JSON.stringify(feature)}\n`)
          .join('')
        for (const [text, format] of [
          [collection, geojson],
          [sequence, geojsonSeq],
        ] as const) {
          const names = (await read(text, format, cut)).map(({ properties }) => properties!.name)
          assert.deepEqual(
            names,
            wanted.map(([name]) => name),
          )
        }
      },
    ),
    { numRuns: 60 },
  )
})

test('an invalid feature has the reason, and the others are read', async () => {
  const features = await read(
    `${JSON.stringify(point('a'))}\n{"type":"Feature"\n\n[1]\n${JSON.stringify(point('b'))}`,
    geojsonSeq,
  )
  assert.deepEqual(
    features.map(({ line }) => line),
    [1, 2, 4, 5],
  )
  assert.match(features[1]!.problem!, /not valid JSON/)
  assert.match(features[2]!.problem!, /type undefined/)
})

test('bytes that are not UTF-8 are reported', async () => {
  const bytes = Buffer.concat([
    Buffer.from('{"type":"Feature","properties":{"name":"'),
    Buffer.from([0xff]),
    Buffer.from('"},"geometry":null}'),
  ])
  assert.match((await read(bytes, geojsonSeq))[0]!.problem!, /UTF-8/)
})

test('a source that breaks off, or is something else, is refused as a whole', async () => {
  await assert.rejects(
    read('{"type":"FeatureCollection","features":[{"type":"Feature"', geojson),
    /breaks off on line 1/,
  )
  await assert.rejects(read('{"type":"Feature","properties":{}}', geojson), /no array of features/)
  await assert.rejects(read('{"features":[1]}', geojson), /not an object/)
  await assert.rejects(read('<html>', geojson), /not a JSON document/)
  await assert.rejects(
    read(
      '{"crs":{"type":"name","properties":{"name":"urn:ogc:def:crs:EPSG::25832"}},"features":[]}',
      geojson,
    ),
    /EPSG::25832.*ogr2ogr/,
  )
})

test('longitude and latitude as an old-style crs member are accepted', async () => {
  assert.deepEqual(
    await read(
      '{"crs":{"type":"name","properties":{"name":"urn:ogc:def:crs:OGC:1.3:CRS84"}},"features":[]}',
      geojson,
    ),
    [],
  )
})

test('text in another encoding, and two columns of the same name, are refused', async () => {
  await assert.rejects(read(Buffer.from('x,y,n\n1,2,Z\xfcrich\n', 'latin1'), csv), /not UTF-8.*iconv/)
  await assert.rejects(read('x,y,n,n\n1,2,3,4\n', csv), /Two columns are called "n"/)
})

test('a byte order mark is not part of the first line', async () => {
  const [feature] = await read(`\ufeff${JSON.stringify(point('a'))}\n`, geojsonSeq)
  assert.equal(feature!.properties!.name, 'a')
})

test('CSV becomes points, with any of the usual column names and delimiters', async () => {
  for (const [text, delimiter] of [
    ['name,Lon,LAT\n"a, b\nc",1,2\nd,3,4\n', ','],
    ['name;x;y\na;1;2\nd;3;4', ';'],
    ['name\tlng\tlat\na\t1\t2\nd\t3\t4', '\t'],
  ]) {
    const features = await read(text!, csv)
    assert.deepEqual(
      features[1],
      {
        line: text!.includes('"') ? 4 : 3,
        geometry: { type: 'Point', coordinates: [3, 4] },
        properties: Object.assign(Object.create(null), { name: 'd' }),
      },
      delimiter,
    )
  }
})

test('a CSV column may have any name', async () => {
  const [feature] = await read('__proto__,constructor,x,y\na,b,1,2\n', csv)
  assert.deepEqual(Object.entries(feature!.properties!), [
    ['__proto__', 'a'],
    ['constructor', 'b'],
  ])
})

test('the error for CSV without coordinates names its columns', async () => {
  await assert.rejects(read('a,b\n1,2', csv), /the columns are a, b.*--longitude/)
  const [feature] = await read('a,b\n1,2', csv, 99, { longitude: 'a', latitude: 'b' })
  assert.deepEqual(feature!.geometry, { type: 'Point', coordinates: [1, 2] })
})

test('a CSV record of a wrong length, and a quote that is not closed, are reported', async () => {
  assert.match((await read('x,y,n\n1,2\n', csv))[0]!.problem!, /2 fields, but the header has 3/)
  await assert.rejects(read('x,y,n\n1,2,"a\n', csv), /^Error: This is not valid CSV: Quote Not Closed/)
})

test('the requested object of a topology is read', async () => {
  const topology = {
    type: 'Topology',
    arcs: [
      [
        [0, 0],
        [1, 1],
      ],
    ],
    objects: {
      a: { type: 'LineString', arcs: [0], properties: { n: 1 } },
      b: { type: 'Point', coordinates: [1, 2] },
    },
  }
  await assert.rejects(read(JSON.stringify(topology), topojson), /holds a, b; name one of them with --object/)
  const [line] = await read(JSON.stringify(topology), topojson, 99, { object: 'a' })
  assert.deepEqual(line!.geometry, {
    type: 'LineString',
    coordinates: [
      [0, 0],
      [1, 1],
    ],
  })
})

test('a format is recognized by the name of the file, or else by its first bytes', () => {
  const detect = (text: string, name = '-') => detectFormat(FORMATS, name, Buffer.from(text))?.name
  assert.equal(detect('', 'a.CSV'), 'csv')
  assert.equal(detect('{"type":"FeatureCollection","features":[{"type":"Feature"}]}\n'), 'geojson')
  assert.equal(detect('{"type":"Feature","geometry":null,"properties":{}}\n{"type":"Feature"}'), 'geojsonseq')
  assert.equal(detect('\x1e{"type":"Feature"}'), 'geojsonseq')
  assert.equal(detect('{"type":"Topology"'), 'topojson')
  assert.equal(detect('name,lon,lat\n'), 'csv')
})

test('the time of detection grows with the first bytes of a source, and not with their square', () => {
  const one = `${JSON.stringify(point('a'))},`
  const text = `{"type":"FeatureCollection","features":[${one.repeat(2 ** 20 / one.length)}`
  const start = performance.now()
  assert.equal(detectFormat(FORMATS, '-', Buffer.from(text))?.name, 'geojson')
  const milliseconds = performance.now() - start
  assert.ok(milliseconds < 5_000, `${milliseconds} ms`)
})

test('help texts name the formats that there are', () => {
  assert.deepEqual(
    FORMATS.map(({ name }) => name),
    Object.keys(FORMAT_TITLES),
  )
})

test('of several formats that recognise the first bytes, the last of the list wins', () => {
  const withMagic: SourceFormat = { ...csv, recognises: (start) => start[0] === 0x50 }
  const detect = (text: string) => detectFormat([...FORMATS, withMagic], '-', Buffer.from(text))
  assert.equal(detect('PAR1'), withMagic)
  assert.equal(detect('name,lon,lat'), csv)
  assert.equal(detectFormat([withMagic], '-', Buffer.from('name,lon,lat')), undefined)
})

test('every start is recognised by a format, and a byte order mark does not matter', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', minLength: 1 }), (text) => {
      const format = detectFormat(FORMATS, '-', Buffer.from(text))
      assert.ok(format)
      assert.equal(detectFormat(FORMATS, '-', Buffer.from(`\ufeff${text}`)), format)
    }),
  )
})
