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
import { readDocuments } from '../../features/import/sources/json-documents.ts'
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
  const input = {
    file: undefined,
    start: bytes.subarray(0, 1000),
    bytes: Readable.from(chunks),
    note: () => {},
  }
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
  assert.match(features[2]!.problem!, /not a GeoJSON feature/)
})

test('bytes that are not UTF-8 are reported', async () => {
  const bytes = Buffer.concat([
    Buffer.from('{"type":"Feature","properties":{"name":"'),
    Buffer.from([0xff]),
    Buffer.from('"},"geometry":null}'),
  ])
  for (const cut of [1, 7, 1000])
    assert.match(
      (await read(Buffer.concat([Buffer.from('\n\n'), bytes]), geojsonSeq, cut))[0]!.problem!,
      /^has the byte 0xFF at offset 42, where UTF-8/,
    )
  const collection = Buffer.concat([Buffer.from('{"features":[\n'), bytes, Buffer.from(']}')])
  assert.match((await read(collection, geojson, 5))[0]!.problem!, /^has the byte 0xFF at offset 54,/)
})

test('a source that breaks off, or is something else, is refused as a whole', async () => {
  const item = JSON.stringify(point('a'))
  const refused: [string, RegExp][] = [
    ['{"type":"FeatureCollection","features":[{"type":"Feature"', /breaks off on line 1/],
    [`{"features":[\n${item}`, /breaks off on line 2/],
    ['{"features":[1]}', /not an object/],
    [`{"features":[${item},null]}`, /not an object/],
    [`{"features":[${item},[${item}]]}`, /not an object/],
    ['<html>', /not a JSON document/],
    [`{"features":[${item},\n]}`, /^Error: Line 2: a comma precedes the end of the array/],
    [`{"features":[,${item}]}`, /a comma of the array has no element before it/],
    [`{"features":[${item},,${item}]}`, /a comma of the array has no element before it/],
    [`[${item}${item}]`, /a comma is missing/],
    [`{"features":[${item}}}`, /not closed by its bracket/],
    [`{"features":[${item}],}`, /not valid JSON/],
    [`{"features":[${item}] "crs":null}`, /not valid JSON/],
    [`{'features':[${item}],"features":[]}`, /not valid JSON/],
    [`{"features":[${item}],"features":[${item}]}`, /second member "features"/],
    [`{"features":[${item}],"features":null}`, /second member "features"/],
    [`[${item}]]`, /a bracket closes that was never opened/],
    [' \n ', /no JSON/],
  ]
  for (const [text, reason] of refused)
    for (const cut of [1, 1000]) await assert.rejects(read(text, geojson, cut), reason, text)
})

test('a document may be one feature, one geometry, or an array of both', async () => {
  const geometry = { type: 'Point', coordinates: [1, 2] }
  const collection = { type: 'GeometryCollection', geometries: [geometry, geometry] }
  const read1 = async (value: unknown, indent?: number) =>
    (await read(JSON.stringify(value, null, indent), geojson, 7)).map((feature) => {
      assert.equal(feature.problem, undefined)
      return [feature.geometry, { ...feature.properties }]
    })
  for (const indent of [undefined, 2]) {
    assert.deepEqual(await read1(point('a'), indent), [[geometry, { name: 'a' }]])
    assert.deepEqual(await read1(geometry, indent), [[geometry, {}]])
    assert.deepEqual(await read1(collection, indent), [[collection, {}]])
    assert.deepEqual(await read1([geometry, point('a'), collection], indent), [
      [geometry, {}],
      [geometry, { name: 'a' }],
      [collection, {}],
    ])
    assert.deepEqual(await read1({ type: 'FeatureCollection', features: [point('a')] }, indent), [
      [geometry, { name: 'a' }],
    ])
    assert.deepEqual(await read1([], indent), [])
  }
})

test('a document that is neither has the reason', async () => {
  const problemOf = async (text: string) => (await read(text, geojson))[0]!.problem!
  assert.match(await problemOf('{"type":"FeatureCollection"}'), /without an array of features/)
  assert.match(await problemOf('{"type":"FeatureCollection","features":{}}'), /without an array of features/)
  assert.match(await problemOf('{"type":"Topology","arcs":[]}'), /has the type "Topology" instead of/)
  assert.match(await problemOf('{"a":1}'), /has the type undefined instead of/)
  assert.match(await problemOf('{"type":"Feature",}'), /not valid JSON/)
})

test('documents that follow one another are all read, as some programs write them', async () => {
  const text = [point('a'), [point('b')], { type: 'FeatureCollection', features: [point('c')] }, point('d')]
    .map((value) => JSON.stringify(value, null, 2))
    .join('\n')
  const features = await read(text, geojson, 11)
  assert.deepEqual(
    features.map(({ properties }) => properties!.name),
    ['a', 'b', 'c', 'd'],
  )
})

test('the name of the array of features may be escaped, and be followed and preceded by anything', async () => {
  const item = JSON.stringify(point('a'))
  for (const text of [
    `{"\\u0066eatures":[${item}],"type":"FeatureCollection"}`,
    `{"name":"features","more":{"features":[1]},"features" : [${item}],"end":[1,{"features":[2]}]}`,
    `{"\\ud83d":[],"features":[${item}]}`,
  ])
    for (const cut of [1, 9, 1000]) {
      const [feature, ...others] = await read(text, geojson, cut)
      assert.deepEqual([feature!.properties!.name, others.length], ['a', 0], text)
      // The array is cut, and does not have to fit into memory.
      const roles = []
      for await (const parts of readDocuments(Readable.from([Buffer.from(text)])))
        roles.push(...parts.map(({ role }) => role))
      assert.deepEqual(roles, ['opening', 'element', 'closing'])
    }
})

test('a crs of a collection is found before and after its features, and is refused or understood', async () => {
  const crs = (name: string) => JSON.stringify({ type: 'name', properties: { name } })
  const before = (name: string) => `{"crs":${crs(name)},"features":[${JSON.stringify(point('a', 200))}]}`
  const after = (name: string) => `{"features":[${JSON.stringify(point('a'))}],"crs":${crs(name)}}`
  for (const text of [before, after]) {
    await assert.rejects(
      read(text('urn:ogc:def:crs:EPSG::25832'), geojson),
      /Line 1: the collection has the crs .*EPSG::25832;.*ogr2ogr/,
    )
    assert.equal((await read(text('urn:ogc:def:crs:OGC:1.3:CRS84'), geojson)).length, 1)
  }
  // Before any feature is read: coordinates out of range would be reported instead.
  let read1 = 0
  const bytes = Readable.from([Buffer.from(before('EPSG:3857'))])
  const { features } = await geojson.read(
    { file: undefined, start: Buffer.alloc(0), bytes, note: () => {} },
    {},
  )
  await assert.rejects(async () => {
    for await (const batch of features) read1 += batch.length
  }, /EPSG:3857/)
  assert.equal(read1, 0)
})

test('a crs of a feature is refused or understood, in every format of JSON', async () => {
  const crs = { type: 'name', properties: { name: 'EPSG:3857' } }
  const foreign = { ...point('a'), crs }
  const collection = { type: 'FeatureCollection', features: [point('a')], crs }
  for (const [value, format] of [
    [{ type: 'FeatureCollection', features: [foreign] }, geojson],
    [[foreign], geojson],
    [foreign, geojson],
    [foreign, geojsonSeq],
    [collection, geojsonSeq],
  ] as const)
    assert.match((await read(JSON.stringify(value), format))[0]!.problem!, /^has the crs EPSG:3857;/)
  const [known] = await read(JSON.stringify({ ...foreign, crs: null }), geojson)
  assert.equal(known!.problem, undefined)
})

test('numbers keep their digits in properties and ids, whatever follows the coordinates', async () => {
  const digits = '0.1234567890123456789'
  const texts = [
    `{"type":"Feature","id":9007199254740993,"geometry":{"type":"Point","coordinates":[1.12345678901234567,2]},"properties":{"n":${digits},"big":1e400,"small":1e-400,"one":1.5}}`,
    `{"properties":{"n":${digits},"coordinates":[9007199254740993],"big":1e400,"small":1e-400,"one":1.5},"geometry":null,"id":9007199254740993,"type":"Feature"}`,
    `{"properties":{"coordinates":[9007199254740993],"n":${digits},"big":1e400,"small":1e-400,"one":1.5},"geometry":{"type":"Point","coordinates":[1,2]},"id":9007199254740993,"type":"Feature"}`,
  ]
  for (const text of texts) {
    const [feature] = await read(`[${text}]`, geojson)
    const { n, big, small, one, coordinates } = feature!.properties!
    assert.deepEqual(
      [String(feature!.id), String(n), String(big), String(small), one],
      ['9007199254740993', digits, '1e400', '1e-400', 1.5],
    )
    if (coordinates) assert.equal(String(coordinates[0]), '9007199254740993')
  }
  const [tiny] = await read('[{"type":"Feature","geometry":null,"properties":{"n":1e-400}}]', geojson)
  assert.equal(String(tiny!.properties!.n), '1e-400')
  // Coordinates that are no numbers are judged with the geometry, and the JSON is valid.
  for (const coordinates of ['[[1,2],["a",3]]', '"x"', 'null', '[{"a":[1]}]']) {
    const [feature] = await read(
      `{"type":"Feature","geometry":{"type":"LineString","coordinates":${coordinates}},"properties":{"n":${digits}}}`,
      geojson,
    )
    assert.equal(feature!.problem, undefined)
    assert.equal(String(feature!.properties!.n), digits)
  }
})

test('a record of a sequence begins at its separator and may have several lines', async () => {
  const pretty = (name: string) => `\x1e${JSON.stringify(point(name), null, 2)}\n`
  const line = (name: string) => `${JSON.stringify(point(name))}\n`
  const sources: [string, unknown[]][] = [
    [pretty('a') + pretty('b'), ['a', 'b']],
    [`${pretty('a')}\x1e${line('b')}${pretty('c')}`, ['a', 'b', 'c']],
    // Newline-delimited, and then with separators; a separator only at the start; lines within records.
    [`${line('a')}\n${line('b')}${pretty('c')}`, ['a', 'b', 'c']],
    [`\x1e${line('a')}${line('b')}\r\n${line('c')}`, ['a', 'b', 'c']],
    [`\x1e\n${line('a')}\x1e\x1e${line('b')}${line('c')}${pretty('d')}`, ['a', 'b', 'c', 'd']],
    [`\x1e${JSON.stringify(point('a'))}\x1e${JSON.stringify(point('b'))}`, ['a', 'b']],
    // A text of RFC 8142 is any GeoJSON.
    [
      `\x1e{"type":"FeatureCollection","features":[\n${line('a')},${line('b')}]}\n\x1e[${line('c')}]`,
      ['a', 'b', 'c'],
    ],
    // Truncated records are reported, and the others are read.
    [
      `\x1e{"type":"Feature",\n"pro\n${pretty('a')}\x1e{"type":\x1e${line('b')}\x1e{"ty`,
      [1, 'a', 16, 'b', 17],
    ],
  ]
  for (const [text, wanted] of sources)
    for (const cut of [1, 3, 50, 10_000]) {
      const names = (await read(text, geojsonSeq, cut)).map(({ problem, line, properties }) =>
        problem === undefined ? properties!.name : line,
      )
      assert.deepEqual(names, wanted, JSON.stringify(text))
    }
  const features = await read(pretty('a') + pretty('b'), geojsonSeq, 5)
  assert.deepEqual(
    features.map(({ line }) => line),
    [1, pretty('a').split('\n').length],
  )
})

test('one line or one feature that is larger than any feature is refused while it is read', async () => {
  const mebibyte = Buffer.alloc(1 << 20, 'x')
  const endless = async function* (start: string) {
    yield Buffer.from(start)
    for (let sent = 0; sent < 1000; sent++) yield mebibyte
    assert.fail('all of it was read')
  }
  const refused: [string, SourceFormat][] = [
    ['{"type":"FeatureCollection","features":[{"a":"', geojson],
    ['{"a":"', geojson],
    ['[{"a":"', geojson],
    ['{"features":[],"a":"', geojson],
    ['{"a":"', geojsonSeq],
    ['\x1e{\n"a":\n"', geojsonSeq],
    ['{"type":"Topology","a":"', topojson],
    ['lon,lat,n\n1,2,"', csv],
  ]
  for (const [start, format] of refused) {
    const bytes = Readable.from(endless(start))
    const input = { file: undefined, start: Buffer.from(start), bytes, note: () => {} }
    await assert.rejects(async () => {
      for await (const _ of (await format.read(input, {})).features);
    }, /^Error: .*(larger than \d+ MiB|Max Record Size)/)
  }
})

test('text in another encoding is refused with the byte that shows it', async () => {
  for (const cut of [1, 2, 3, 5, 100]) {
    await assert.rejects(
      read(Buffer.from('x,y,n\n1,2,Z\xfcrich\n', 'latin1'), csv, cut),
      /not UTF-8: it has the byte 0xFC at offset 11, where.*iconv/,
    )
    await assert.rejects(read(Buffer.from([...Buffer.from('x,y,ä€😀'), 0xf0, 0x9f]), csv, cut), /offset 13,/)
    assert.deepEqual(
      (await read('n,x,y\nä€😀,1,2', csv, cut)).map(({ properties }) => properties!.n),
      ['ä€😀'],
    )
  }
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

test('a quote that is not closed is reported', async () => {
  await assert.rejects(read('x,y,n\n1,2,"a\n', csv), /^Error: This is not valid CSV: Quote Not Closed/)
})

async function readNoting(text: string, options: SourceOptions = {}) {
  const notes: string[] = []
  const bytes = Buffer.from(text)
  const input = {
    file: undefined,
    start: bytes,
    bytes: Readable.from([bytes]),
    note: (note: string) => notes.push(note),
  }
  const features: SourceFeature[] = []
  for await (const batch of (await csv.read(input, options)).features) features.push(...batch)
  return { features, notes, properties: features.map(({ properties }) => ({ ...properties })) }
}

test('a column without a name is left out if it is empty, and else gets one, which is said', async () => {
  const pandas = await readNoting(',name,lon,lat\n0,a,1,2\n1,b,3,4\n')
  assert.deepEqual(pandas.properties, [
    { column_1: '0', name: 'a' },
    { column_1: '1', name: 'b' },
  ])
  assert.deepEqual(pandas.notes, ['Column 1 has no name: it becomes column_1.'])
  const spreadsheet = await readNoting('name;lon;lat;;\na;1;2;;\nb;3;4;;x\n;;;;\n')
  assert.deepEqual(spreadsheet.properties, [{ name: 'a' }, { name: 'b', column_5: 'x' }])
  assert.deepEqual(spreadsheet.notes, ['Column 5 has no name: it becomes column_5.'])
  const taken = await readNoting('column_2,,lon,lat\na,b,1,2\n')
  assert.deepEqual(taken.properties, [{ column_2: 'a', column_2_2: 'b' }])
})

test('a column with the name of another gets a number, which is said', async () => {
  const { properties, notes } = await readNoting('n,n,n_2,lon,lat,lon, n\n1,2,3,4,5,6,7\n')
  assert.deepEqual(properties, [{ n: '1', n_3: '2', n_2: '3', lon_2: '6', n_4: '7' }])
  assert.deepEqual(notes, [
    'Column 2 has the name of another, n: it becomes n_3.',
    'Column 6 has the name of another, lon: it becomes lon_2.',
    'Column 7 has the name of another, n: it becomes n_4.',
  ])
})

test('cells that are missing are empty, which is said once; coordinates that are missing and further cells are no feature', async () => {
  const { features, notes } = await readNoting('lon,lat,a,b\n1,2,x\n1,2\n1\n1,2,x,y,\n1,2,x,y,z\n')
  assert.deepEqual(
    features.map(({ problem, properties }) => problem ?? { ...properties }),
    [
      { a: 'x', b: null },
      { a: null, b: null },
      'has 1 cells, but the header names 4 columns',
      { a: 'x', b: 'y' },
      'has 5 cells, but the header names 4 columns; the further ones begin with "z"',
    ],
  )
  assert.equal(notes.length, 1)
  assert.match(notes[0]!, /^Line 2 has 3 cells/)
})

test('coordinates of a CSV are decimal numbers, and a message names the column and shows the value', async () => {
  const coordinateOf = async (text: string, delimiter = ';') => {
    const cell = text.includes(delimiter) ? `"${text}"` : text
    const [feature] = await read(`lat${delimiter}lon\n2${delimiter}${cell}\n`, csv)
    return feature!.problem ?? (feature!.geometry as { coordinates: number[] }).coordinates[0]
  }
  for (const [text, number] of [
    ['10.5', 10.5],
    ['+5', 5],
    [' 10 ', 10],
    ['1e1', 10],
    ['.5', 0.5],
    ['5.', 5],
    ['-0', -0],
    ['10,5', 10.5],
    ['-0,25', -0.25],
  ] as const)
    assert.equal(await coordinateOf(text), number, text)
  for (const text of [
    '0x10',
    '1_000',
    '1.234,5',
    '1,234,567',
    '10 5',
    'N/A',
    'Infinity',
    'NaN',
    '1e400',
    '1e',
    '--1',
  ])
    assert.equal(
      await coordinateOf(text),
      `has ${JSON.stringify(text)} in lon, which is no number; valid are for example 10.5 and -3`,
    )
  assert.equal(await coordinateOf(''), 'has no value in lon, but the other coordinate')
  assert.equal(
    await coordinateOf('10,5', ','),
    'has "10,5" in lon, which is no number: with decimal commas, the delimiter must be ; or a tab',
  )
})

test('CSV may have the first line of Excel, bars, line breaks of any kind, and delimiters in its header', async () => {
  const rows = [
    ['a', 1, 2],
    ['b\nc', 3, 4],
  ]
  for (const [text, line] of [
    ['sep=;\r\nname;lon;lat\r\na;1;2\r\n"b\nc";3;4\r\n', 5],
    ['"sep=|"\nname|lon|lat\na|1|2\n"b\nc"|3|4\n', 5],
    ['SEP=,\nname,lon,lat\na,1,2\n"b\nc",3,4', 5],
    ['name|lon|lat\na|1|2\n"b\nc"|3|4\n', 4],
    ['name\tlon\tlat\na\t1\t2\n"b\nc"\t3\t4', 4],
    ['name,lon,lat\ra,1,2\r"b\nc",3,4\r', 4],
    ['name,lon,lat\r\na,1,2\n"b\nc",3,4\r\n', 4],
    ['name,lon,lat\na,1,2\r\n\r\n"b\nc",3,4\r\n', 5],
    ['name,lon,lat,"a;b;c;d;e\n;"\na,1,2,\n"b\nc",3,4,', 5],
  ] as const) {
    const { features } = await readNoting(text)
    assert.deepEqual(
      features.map(({ properties, geometry }) => [
        properties!.name,
        ...(geometry as { coordinates: number[] }).coordinates,
      ]),
      rows,
      JSON.stringify(text),
    )
    assert.equal(features[1]!.line, line, JSON.stringify(text))
  }
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

const topologyOf = (objects: object, more: object = {}) => ({
  type: 'Topology',
  arcs: [
    [
      [0, 0],
      [1, 1],
    ],
  ],
  objects,
  ...more,
})

test('an object of a topology that is wrong is refused, or its feature has the reason', async () => {
  const readAll = (objects: object, more?: object, options?: SourceOptions) =>
    read(JSON.stringify(topologyOf(objects, more)), topojson, 99, options)
  const line = { type: 'LineString', arcs: [0] }
  const crs = { type: 'name', properties: { name: 'EPSG:3857' } }
  await assert.rejects(readAll({}), /The topology has no object\./)
  await assert.rejects(readAll({ a: { arcs: [0] } }), /object a of the topology has the type undefined/)
  await assert.rejects(readAll({ a: null }), /object a of the topology has the type null/)
  await assert.rejects(readAll({ a: line }, { arcs: [1] }), /arcs that are not arrays/)
  await assert.rejects(readAll({ a: line }, { crs }), /topology has the crs EPSG:3857/)
  await assert.rejects(readAll({ a: { ...line, crs } }), /object a of the topology has the crs EPSG:3857/)
  await assert.rejects(readAll({ a: line }, {}, { object: 'toString' }), /holds a; name one/)
  const geometries: [unknown, RegExp | undefined][] = [
    [line, undefined],
    [{ type: null, properties: {} }, undefined],
    [{ type: 'LineString', arcs: [7] }, /^has the arc 7, but the topology has 1 arcs/],
    [{ type: 'LineString', arcs: [-2] }, /^has the arc -2,/],
    [{ type: 'LineString', arcs: [-1] }, undefined],
    [{ type: 'Polygon', arcs: [['constructor']] }, /^has the arc "constructor"/],
    [
      { type: 'GeometryCollection', geometries: [{ type: 'MultiPolygon', arcs: [[[1]]] }] },
      /^has the arc 1,/,
    ],
    [{ type: 'LineString' }, /arcs or coordinates that are not nested/],
    [{ type: 'MultiPoint' }, /arcs or coordinates that are not nested/],
    [{ arcs: [0] }, /^has the type undefined, which is none of/],
    [{ ...line, crs }, /^has the crs EPSG:3857/],
    [{ type: 'GeometryCollection', geometries: [{ ...line, crs }] }, /^has the crs EPSG:3857/],
    [7, /not an object/],
  ]
  const features = await readAll({
    constructor: { type: 'GeometryCollection', geometries: geometries.map(([geometry]) => geometry) },
  })
  for (const [index, [geometry, reason]] of geometries.entries()) {
    const { problem } = features[index]!
    if (reason) assert.match(problem!, reason, JSON.stringify(geometry))
    else assert.equal(problem, undefined)
  }
})

test('an object, a property and an id of a topology may have any name and keep every digit', async () => {
  const text = `{"type":"Topology","transform":{"scale":[1.0000000000000000001,1],"translate":[0,0]},"arcs":[],"objects":{"__proto__":
    {"type":"Point","id":9007199254740993,"coordinates":[1,2.00000000000000000001],"properties":{"constructor":9007199254740993,"__proto__":0.12345678901234567890}}}}`
  const [feature] = await read(text, topojson)
  assert.deepEqual(feature!.geometry, { type: 'Point', coordinates: [1, 2] })
  assert.deepEqual([feature!.id, ...Object.values(feature!.properties!)].map(String), [
    '9007199254740993',
    '9007199254740993',
    '0.12345678901234567890',
  ])
})

test('a format is recognized by the name of the file, or else by its first bytes', () => {
  const detect = (text: string, name = '-') => detectFormat(FORMATS, name, Buffer.from(text))?.name
  assert.equal(detect('', 'a.CSV'), 'csv')
  assert.equal(detect('{"type":"FeatureCollection","features":[{"type":"Feature"}]}\n'), 'geojson')
  assert.equal(detect('{"type":"Feature","geometry":null,"properties":{}}\n{"type":"Feature"}'), 'geojsonseq')
  assert.equal(detect('\x1e{"type":"Feature"}'), 'geojsonseq')
  assert.equal(detect('{"type":"Topology"'), 'topojson')
  assert.equal(detect('name,lon,lat\n'), 'csv')
  // Names of types within text, and other kinds of texts in one line.
  const named = (name: string) => `${JSON.stringify(point(name))}\n`
  assert.equal(detect(named('"FeatureCollection"') + named('b')), 'geojsonseq')
  assert.equal(detect(named('"type":"FeatureCollection"')), 'geojsonseq')
  assert.equal(detect('{"type":"FeatureCollection","name":"Feature","features":[]}\n'), 'geojson')
  assert.equal(
    detect('{"type":"Point","coordinates":[1,2]}\n{"type":"Point","coordinates":[1,2]}'),
    'geojsonseq',
  )
  assert.equal(detect('[{"type":"Feature"}]\n'), 'geojson')
  // A name tells less than a start that a stricter format recognises, and more than one that no format does.
  assert.equal(detect(named('a') + named('b'), 'a.geojson'), 'geojsonseq')
  assert.equal(detect('\x1e{', 'a.geojson'), 'geojsonseq')
  assert.equal(detect('{"type":"Topology"', 'a.geojson'), 'topojson')
  assert.equal(detect('<html>', 'a.geojson'), 'geojson')
  assert.equal(detect('{', 'a.csv.gz'), 'csv')
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

test('every start is recognised by a format', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', minLength: 1 }), (text) => {
      const format = detectFormat(FORMATS, '-', Buffer.from(text))
      assert.ok(format)
    }),
  )
})
