// Tests each requirement of OGC API Features Part 3 and of CQL2 for every kind of property, as text and as JSON. The names of
// the tests begin with the requirements; docs/reference/conformance.md is made of them.

import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { printJson } from '../../features/filter/cql2-json.ts'
import { parseText } from '../../features/filter/cql2-text.ts'
import { printText } from '../../features/filter/print.ts'
import { startGateway } from '../support/gateway.ts'
import { makeRandom } from '../support/random.ts'

const { client, session, catalog } = await startGateway()
const random = makeRandom(3)

/** Properties of the table by their type in CQL2, with a literal of it that no row has. */
const PROPERTIES = {
  string: [['name', 'kind', 'code'], "'foo'"],
  number: [['ratio', 'exact'], '3.14'],
  integer: [['id', 'small', 'big'], '1'],
  boolean: [['flag'], 'true'],
  date: [['day', 'until'], "DATE('2022-04-14')"],
  timestamp: [['seen', 'noted'], "TIMESTAMP('2022-04-14T14:48:46Z')"],
} as const
const scalars = Object.values(PROPERTIES).flatMap(([names, value]) =>
  names.map((name) => [name, value] as const),
)
const strings = PROPERTIES.string[0]
const lists = ['tags', 'numbers', 'codes']
const REL = 'http://www.opengis.net/def/rel/ogc/1.0'

before(async () => {
  await session.query(`
    create type sample_kind as enum ('wild', 'calm');
    create table samples (id int primary key, geom geometry(Geometry, 4326), name text, kind sample_kind, code uuid,
      ratio float8, exact numeric, small int2, big int8, flag bool, day date, until date, seen timestamptz, noted timestamp,
      tags text[], numbers int4[], codes uuid[], facts jsonb);
    insert into samples select i,
      case i % 9 when 0 then null when 1 then st_makepoint(i - 20, i) when 2 then st_makeline(st_makepoint(i, 0), st_makepoint(0, i))
        when 3 then st_buffer(st_makepoint(i, i), 3) when 4 then st_collect(st_makepoint(7, 50), st_makepoint(10, 51))
        when 5 then st_setsrid('MULTILINESTRING((7 50,10 51))'::geometry, 0) when 6 then st_makepoint(7.02, 49.92)
        when 7 then 'POLYGON((-180 -90,180 -90,180 90,-180 90,-180 -90))'::geometry
        else 'GEOMETRYCOLLECTION(POINT(7.02 49.92),POLYGON((0 0,10 0,10 10,0 10,0 0)))'::geometry end,
      (array['Foo', 'Ärger', '', 'a_b', '100%', 'food', 'ae', null])[1 + i % 8],
      (array['wild', 'calm', null])[1 + i % 3]::sample_kind,
      case when i % 4 > 0 then ('6f9619ff-8b86-4d01-b42d-00cf4fc9' || to_char(i, 'FM0000'))::uuid end,
      nullif(i % 7, 0) / 2.0, nullif(i % 5, 0) * 1.57, nullif(i % 6, 0), nullif(i % 10, 0) * 1000000007::int8, nullif(i % 3, 0) = 1,
      case when i % 5 > 0 then date '2020-06-01' + i * 40 end, case when i % 7 > 0 then date '2020-12-31' + i * 40 end,
      case when i % 5 > 0 then timestamptz '2020-12-01Z' + i * interval '30 days' end,
      case when i % 7 > 0 then timestamp '2021-01-01' + i * interval '30 days' end,
      case when i % 4 > 0 then array['foo', 't' || i % 3] end, array[i % 3, 1], array[]::uuid[], '{}'
    from generate_series(1, 60) i;
    update samples set geom = st_setsrid(geom, 4326)`)
  await catalog.reload()
})

const ask = (parameters: Record<string, string>, collection = 'samples') =>
  client(`/collections/${collection}/items?${new URLSearchParams({ limit: '1000', ...parameters })}`)

const idsOf = async (parameters: Record<string, string>, collection?: string) => {
  const { status, json } = await ask(parameters, collection)
  assert.equal(status, 200, `${parameters.filter}: ${json.detail}`)
  return new Set((json.features as { id: number }[]).map(({ id }) => id))
}

/** Filters that were evaluated, for combinations of them. */
const evaluated = new Set<string>()

/** Returns the ids of the features that a filter finds, the same as text, in its shortest form, and as JSON. */
async function found(filter: string): Promise<Set<number>> {
  const ids = await idsOf({ filter })
  const { expression } = parseText(filter)
  assert.deepEqual(await idsOf({ filter: printJson(expression), 'filter-lang': 'cql2-json' }), ids, filter)
  const shortest = printText(expression)
  if (shortest !== filter) assert.deepEqual(await idsOf({ filter: shortest }), ids, shortest)
  evaluated.add(filter)
  return ids
}

const all = () => found('true')
/** Returns the ids of the rows for which a condition in SQL is true. */
const rows = async (condition: string) =>
  new Set(
    (await session.query<{ id: string }>(`select id from samples where ${condition} order by id`)).map(
      ({ id }) => Number(id),
    ),
  )
async function isRefused(filter: string, parameters: Record<string, string> = {}) {
  const { status, type, json } = await ask({ filter, ...parameters })
  assert.deepEqual([status, json.code], [400, 'parameter-invalid'], filter)
  assert.match(type, /^application\/problem\+json/)
}
const areApart = (one: Set<number>, other: Set<number>, filter: string) =>
  assert.deepEqual([...one.intersection(other)], [], filter)

test('/req/queryables/queryables-link, /req/features-filter/queryables-link: collections and their items link to the queryables', async () => {
  const { collections } = (await client('/collections')).json as {
    collections: { id: string; links: { rel: string; href: string }[] }[]
  }
  for (const { id, links } of collections) {
    const { href } = links.find(({ rel }) => rel === `${REL}/queryables`)!
    assert.equal(href, `${client.url}/collections/${encodeURIComponent(id)}/queryables`)
  }
  for (const method of ['HEAD', 'GET']) {
    const { headers } = await client('/collections/samples/items', { method })
    const links = headers.get('link')!.split(', ')
    assert.ok(
      links.includes(
        `<${client.url}/collections/samples/queryables>; rel="${REL}/queryables"; type="application/schema+json"`,
      ),
      links.join('\n'),
    )
  }
})

test('/req/queryables/get-queryables-op, /req/queryables/get-queryables-response, /req/features-filter/get-queryables-op: the queryables are a JSON Schema that names every type', async () => {
  for (const collection of ['samples', 'cities', 'countries', 'counties']) {
    const path = `/collections/${collection}/queryables`
    const { status, type, json } = await client(path, { headers: { accept: 'application/schema+json' } })
    assert.equal(status, 200)
    assert.match(type, /^application\/schema\+json/)
    assert.equal(json.$schema, 'https://json-schema.org/draft/2020-12/schema')
    assert.equal(json.$id, client.url + path)
    assert.deepEqual([json.type, json.additionalProperties], ['object', false])
    new Ajv2020({ strict: false, validateFormats: false }).compile(json)
    const properties = Object.entries(json.properties as Record<string, { type?: unknown; format?: string }>)
    for (const [name, { type, format }] of properties)
      assert.ok(name === 'geom' ? !type && format!.startsWith('geometry-') : type, name)
    assert.ok(properties.length > 2)
  }
})

test('/conf/queryables, /req/queryables/expression-construction, /req/basic-cql2/property: a filter can name what the queryables list, and nothing else', async () => {
  const { properties } = (await client('/collections/samples/queryables')).json
  assert.deepEqual(
    Object.keys(properties).toSorted(),
    [...scalars.map(([name]) => name), ...lists, 'facts', 'geom'].toSorted(),
  )
  for (const name of Object.keys(properties)) {
    const [missing, present] = [await found(`${name} IS NULL`), await found(`${name} is not null`)]
    assert.deepEqual(missing, await rows(`${name} is null`), name)
    areApart(missing, present, name)
    assert.equal(missing.size + present.size, 60)
  }
  await isRefused('this_is_not_a_queryable IS NULL')
  await isRefused('Name IS NULL')
})

test('/req/queryables-query-parameters/parameters: every queryable with a simple value is a parameter that refuses other values', async () => {
  const { features } = (await ask({ filter: 'id = 1' })).json
  for (const [name] of scalars) {
    const value = name === 'id' ? '1' : String(features[0].properties[name])
    assert.ok((await idsOf({ [name]: value })).has(1), name)
    if (name === 'name') continue
    const { status, json } = await ask({ [name]: 'not a value' })
    assert.deepEqual([status, json.code], [400, 'parameter-invalid'], name)
  }
})

test('/req/filter/filter-param, /req/filter/response, /req/features-filter/filter-param, /req/features-filter/response: a filter selects the features for which it is true, and what is none is refused', async () => {
  assert.equal((await idsOf({})).size, 60)
  assert.deepEqual(await found("name = 'Foo'"), await rows("name = 'Foo'"))
  assert.deepEqual(await found("NOT name = 'Foo'"), await rows("not name = 'Foo'"))
  assert.deepEqual([...(await found('false'))], [])
  for (const filter of ['THIS IS NOT A FILTER', '', ' ', "name = 'Foo", '1', 'id = 1 AND'])
    await isRefused(filter)
  const twice = await client('/collections/samples/items?filter=true&filter=true')
  assert.deepEqual([twice.status, twice.json.parameter], [400, 'filter'])
  // A plus sign that is not encoded is a space, as in every form of a browser.
  const { json } = await client('/collections/samples/items?filter=id+=+1')
  assert.equal(json.features.length, 1)
  const pages = []
  for (let next: string | undefined = '/collections/samples/items?limit=4&filter=small=1'; next; ) {
    const { json } = await client(next)
    pages.push(...json.features.map(({ id }: { id: number }) => id))
    next = json.links.find(({ rel }: { rel: string }) => rel === 'next')?.href
  }
  assert.deepEqual(new Set(pages), await rows('small = 1'))
})

test('/req/filter/filter-lang-param, /req/features-filter/filter-lang-param: the language is text unless filter-lang says JSON', async () => {
  const { parameters } = (await client('/api')).json.paths['/collections/{collectionId}/items'].get
  const schemaOf = (name: string) =>
    parameters.find((one: { name: string }) => one.name === name) as { schema: Record<string, unknown> }
  assert.equal(schemaOf('filter').schema.type, 'string')
  const { schema } = schemaOf('filter-lang')
  assert.equal(schema.default, 'cql2-text')
  assert.deepEqual((schema.enum as string[]).slice(0, 2), ['cql2-text', 'cql2-json'])
  const json = printJson(parseText('id = 1').expression)
  for (const parameters of [
    { filter: 'id = 1' },
    { filter: 'id = 1', 'filter-lang': 'cql2-text' },
    { filter: json, 'filter-lang': 'cql2-json' },
  ])
    assert.deepEqual([...(await idsOf(parameters))], [1])
  await isRefused(json)
  await isRefused('id = 1', { 'filter-lang': 'cql2-json' })
  await isRefused('id = 1', { 'filter-lang': 'sql' })
  const alone = await ask({ 'filter-lang': 'sql' })
  assert.deepEqual([alone.status, alone.json.parameter], [400, 'filter-lang'])
  assert.equal((await idsOf({ 'filter-lang': 'cql2-json' })).size, 60)
})

test('/req/filter/filter-crs-wgs84: geometries are longitude and latitude in degrees by default', async () => {
  for (const collection of ['samples', 'countries', 'counties']) {
    const [box] = (await client(`/collections/${collection}`)).json.extent.spatial.bbox
    const inside = await ask({ filter: `S_INTERSECTS(geom,BBOX(${box}))` }, collection)
    const { json } = await ask({ filter: 'geom IS NOT NULL' }, collection)
    assert.equal(inside.json.numberMatched, json.numberMatched, collection)
  }
  await isRefused('S_INTERSECTS(geom,BBOX(1000000,1000000,2000000,2000000))')
})

test('/req/filter/filter-crs-param, /req/features-filter/filter-crs-param: filter-crs chooses the order of the axes, and unknown systems are refused', async () => {
  const expected = await found('S_INTERSECTS(geom,POINT(7.02 49.92))')
  for (const [crs, point] of [
    ['http://www.opengis.net/def/crs/OGC/1.3/CRS84', '7.02 49.92'],
    ['http://www.opengis.net/def/crs/OGC/0/CRS84h', '7.02 49.92'],
    ['http://www.opengis.net/def/crs/EPSG/0/4326', '49.92 7.02'],
  ] as const)
    assert.deepEqual(
      await idsOf({ filter: `S_INTERSECTS(geom,POINT(${point}))`, 'filter-crs': crs }),
      expected,
    )
  for (const crs of ['http://www.opengis.net/def/crs/OGC/0/does_not_exist', 'EPSG:4326', ''])
    await isRefused('true', { 'filter-crs': crs })
})

test('/req/filter/mixing-expressions: a feature must meet the filter and every other parameter', async () => {
  const filter = 'small > 1'
  const [bbox, datetime] = ['0,0,60,60', '2021-06-01/..']
  const [one, two, three] = [
    await idsOf({ filter }),
    await idsOf({ bbox }),
    await idsOf({ datetime, flag: 'true' }),
  ]
  const both = await idsOf({ filter, bbox, datetime, flag: 'true' })
  assert.deepEqual(both, one.intersection(two).intersection(three))
  assert.ok(both.size > 0)
  const apart = {
    filter: 'S_INTERSECTS(geom,BBOX(40,40,60,60)) AND id < 60',
    bbox: '-20,-20,-10,-10',
    id: '1',
  }
  assert.equal((await idsOf(apart)).size, 0)
})

test('/req/filter/get-functions-operation, /req/filter/get-functions-response-json, /req/functions/get-functions-operation, /req/functions/get-functions-response-json: the functions are listed with the types of their arguments and results', async () => {
  const { status, type, json } = await client('/functions')
  assert.equal(status, 200)
  assert.match(type, /^application\/json/)
  const types = ['string', 'number', 'integer', 'datetime', 'geometry', 'boolean']
  for (const { name, arguments: taken, returns } of json.functions) {
    assert.equal(typeof name, 'string')
    for (const { type } of [...taken, { type: returns }])
      assert.ok(type.length > 0 && type.every((one: string) => types.includes(one)), name)
  }
  assert.ok(json.functions.length > 0)
})

test('/req/basic-cql2/binary-comparison-predicate: a comparison and its opposite share no feature, and unknown values meet neither', async () => {
  for (const [name, value] of scalars) {
    const of = (op: string) => found(`${name} ${op} ${value}`)
    const pairs = [
      [await of('='), await of('<>')],
      [await of('>'), await of('<=')],
      [await of('<'), await of('>=')],
    ] as const
    for (const [one, other] of pairs) {
      areApart(one, other, name)
      assert.equal(one.size + other.size, (await found(`${name} IS NOT NULL`)).size, name)
    }
    assert.equal(
      (await found(`(${name} = ${value}) IS NULL`)).size,
      (await found(`${name} IS NULL`)).size,
      name,
    )
  }
  for (const filter of [
    "id = 'x'",
    'name = 1',
    'flag = 1',
    'day = 1',
    'seen = true',
    'id = name',
    'geom = 1',
  ])
    await isRefused(filter)
})

test('/req/basic-cql2/null-predicate: what is unknown stays unknown under NOT', async () => {
  const unknown = await found("name = 'Foo' IS NULL OR false".replace("name = 'Foo'", "(name = 'Foo')"))
  assert.deepEqual(unknown, await rows('name is null'))
  assert.deepEqual(await found("(NOT name = 'Foo') IS NULL"), unknown)
  assert.deepEqual(await found("NOT (name = 'Foo') IS NULL"), await rows('name is not null'))
  for (const value of [
    "'a'",
    '1',
    'true',
    "DATE('2020-01-01')",
    "INTERVAL('..','..')",
    'POINT(1 1)',
    'BBOX(1,1,2,2)',
  ])
    assert.equal((await found(`${value} IS NULL`)).size, 0, value)
  assert.deepEqual(await found('small + 1 IS NULL'), await rows('small is null'))
  assert.deepEqual(await found('CASEI(name) IS NULL'), await rows('name is null'))
  assert.deepEqual(await found('lower(name) IS NOT NULL'), await rows('name is not null'))
})

test('/req/advanced-comparison-operators/like-predicate: wildcards, the escape character and unknown values', async () => {
  for (const name of strings) {
    const any = await found(`${name} LIKE '%'`)
    assert.deepEqual(any, await rows(`${name} is not null`))
    assert.deepEqual(await found(`${name} like '%%'`), any)
    areApart(await found(`${name} like '_%'`), await found(`${name} like ''`), name)
    await found(`${name} like '\\\\%\\\\_'`)
  }
  assert.deepEqual(await found("name LIKE '100\\%'"), await rows("name = '100%'"))
  assert.deepEqual(await found("name LIKE 'a\\_b'"), await rows("name = 'a_b'"))
  assert.deepEqual(await found("name LIKE '_oo'"), await rows("name = 'Foo'"))
  assert.deepEqual(await found("name NOT LIKE 'F%'"), await rows("name not like 'F%'"))
})

test('/req/advanced-comparison-operators/between-predicate: the bounds are included', async () => {
  for (const name of [...PROPERTIES.number[0], ...PROPERTIES.integer[0]]) {
    assert.deepEqual(await found(`${name} BETWEEN 0 AND 100`), await rows(`${name} between 0 and 100`))
    assert.equal((await found(`${name} between 100.0 and 1.0`)).size, 0)
  }
  assert.deepEqual(await found('small BETWEEN 2 AND 4'), await rows('small in (2, 3, 4)'))
  assert.deepEqual(await found('small NOT BETWEEN 2 AND 4'), await rows('small in (1, 5)'))
  assert.equal((await found('(id BETWEEN 0 AND small) IS NULL')).size, (await found('small IS NULL')).size)
})

test('/req/advanced-comparison-operators/in-predicate: a value is equal to one of the list', async () => {
  const lists: Record<keyof typeof PROPERTIES, string> = {
    string: "'foo', 'bar'",
    number: '1, 2, 3',
    integer: '1, 2, 3',
    boolean: 'true',
    date: "'2022-04-14', '2022-04-15'",
    timestamp: "'2022-04-14T14:52:56Z', '2022-04-14T15:52:56Z'",
  }
  for (const [type, list] of Object.entries(lists))
    for (const name of PROPERTIES[type as keyof typeof PROPERTIES][0]) {
      const [inside, outside] = [await found(`${name} in (${list})`), await found(`${name} NOT IN (${list})`)]
      areApart(inside, outside, name)
      assert.deepEqual(inside.union(outside), await rows(`${name} is not null`), name)
    }
  assert.deepEqual(await found("kind IN ('calm', 'none')"), await rows("kind = 'calm'"))
  await isRefused("id IN (1, 'a')")
})

test('/req/case-insensitive-comparison/casei-function: case does not matter', async () => {
  for (const name of strings) {
    areApart(
      await found(`CASEI(${name}) = casei('foo')`),
      await found(`CASEI(${name}) <> casei('FOO')`),
      name,
    )
    assert.deepEqual(
      await found(`CASEI(${name}) LIKE casei('foo%')`),
      await found(`CASEI(${name}) LIKE casei('FOO%')`),
    )
  }
  assert.deepEqual(await found("CASEI(name) LIKE casei('FOO%')"), await rows("name in ('Foo', 'food')"))
  assert.equal((await found("CASEI('Straße') = CASEI('STRASSE')")).size, 60)
})

test('/req/accent-insensitive-comparison/accenti-function: accents do not matter', async () => {
  for (const name of strings) {
    areApart(
      await found(`ACCENTI(${name}) = accenti('äöüéáí')`),
      await found(`ACCENTI(${name}) <> accenti('aoueai')`),
      name,
    )
    assert.deepEqual(
      await found(`ACCENTI(${name}) LIKE accenti('Ä%')`),
      await found(`ACCENTI(${name}) LIKE accenti('A%')`),
    )
    assert.deepEqual(
      await found(`ACCENTI(CASEI(${name})) = accenti(casei('ÄÉ'))`),
      await found(`ACCENTI(CASEI(${name})) = accenti(casei('ae'))`),
    )
    assert.deepEqual(
      await found(`ACCENTI(CASEI(${name})) LIKE accenti(casei('Ä%'))`),
      await found(`ACCENTI(CASEI(${name})) LIKE accenti(casei('a%'))`),
    )
  }
  assert.deepEqual(await found("ACCENTI(name) LIKE accenti('A%')"), await rows("name = 'Ärger'"))
  assert.deepEqual(await found('ACCENTI(name) IS NULL'), await rows('name is null'))
})

const WORLD = 'POLYGON((-180 -90,180 -90,180 90,-180 90,-180 -90))'

test('/req/basic-spatial-functions/spatial-functions, /req/basic-spatial-functions/spatial-predicate: S_INTERSECTS with points and boxes', async () => {
  assert.deepEqual(await found('S_INTERSECTS(geom,BBOX(-180,-90,180,90))'), await rows('geom is not null'))
  const point = await found('S_INTERSECTS(geom,POINT(7.02 49.92))')
  assert.deepEqual(point, await rows("st_intersects(geom, 'SRID=4326;POINT(7.02 49.92)')"))
  assert.deepEqual(
    await found('NOT S_INTERSECTS(geom,POINT(7.02 49.92))'),
    (await rows('geom is not null')).difference(point),
  )
  assert.deepEqual(
    await found(
      'S_INTERSECTS(geom,POINT(7.02 49.92)) IS NULL OR false'.replace('S_', '(S_').replace(' IS', ') IS'),
    ),
    await rows('geom is null'),
  )
  assert.deepEqual(
    await found('S_INTERSECTS(geom,BBOX(-180,-90,-90,90)) AND S_INTERSECTS(geom,BBOX(90,-90,180,90))'),
    await rows('id % 9 = 7'),
  )
  await isRefused('S_INTERSECTS(geom,POINT(90 180))')
  await isRefused('S_INTERSECTS(geom,name)')
})

test('/req/basic-spatial-functions-plus/spatial-data-types: literals of every geometry, with and without heights', async () => {
  for (const literal of [
    'LINESTRING(-180 -45, 0 -45)',
    'MULTIPOINT((7 50),(10 51))',
    'MULTILINESTRING((-180 -45, 0 -45), (0 45, 180 45))',
    'POLYGON((-180 -90, -90 -90, -90 90, -180 90, -180 -90), (-120 -50, -100 -50, -100 -40, -120 -40, -120 -50))',
    'MULTIPOLYGON(((-180 -90, -90 -90, -90 90, -180 90, -180 -90), (-120 -50, -100 -50, -100 -40, -120 -40, -120 -50)),((0 0, 10 0, 10 10, 0 10, 0 0)))',
    'GEOMETRYCOLLECTION(POINT(7.02 49.92), POLYGON((0 0, 10 0, 10 10, 0 10, 0 0)))',
  ])
    assert.deepEqual(
      await found(`S_INTERSECTS(geom,${literal})`),
      await rows(`st_intersects(geom, 'SRID=4326;${literal}')`),
      literal,
    )
  const point = await found('S_INTERSECTS(geom,POINT(7.02 49.92))')
  for (const literal of [
    'POINT Z(7.02 49.92 5)',
    'POINT(7.02 49.92 5)',
    'GEOMETRYCOLLECTION Z(POINT(7.02 49.92 5))',
  ])
    assert.deepEqual(await found(`S_INTERSECTS(geom,${literal})`), point, literal)
  assert.deepEqual(
    await found('S_INTERSECTS(geom,BBOX(-180,-90,-10,180,90,10))'),
    await rows('geom is not null'),
  )
  await isRefused('S_INTERSECTS(geom,MULTIPOINT(7.02 49.92, 90 180))')
})

test('/req/spatial-functions/spatial-functions: every spatial function finds what PostGIS finds', async () => {
  const functions = [
    'intersects',
    'disjoint',
    'equals',
    'touches',
    'crosses',
    'within',
    'contains',
    'overlaps',
  ]
  for (const name of functions) {
    const call = (literal: string) => found(`S_${name.toUpperCase()}(geom,${literal})`)
    for (const literal of [WORLD, 'LINESTRING(7 50,10 51)', 'POINT(7.02 49.92)', 'MULTIPOINT(7 50,10 51)']) {
      const written = literal.replace('MULTIPOINT(7 50,10 51)', 'MULTIPOINT((7 50),(10 51))')
      assert.deepEqual(
        await call(literal),
        await rows(`st_${name}(geom, 'SRID=4326;${written}')`),
        `${name} ${literal}`,
      )
    }
    assert.deepEqual(await call('BBOX(-180,-90,180,90)'), await call(WORLD), name)
  }
  assert.equal((await found(`S_DISJOINT(geom,${WORLD})`)).size, 0)
  await isRefused('S_DISJOINT(geom,POINT(90 180))')
})

test('/req/temporal-functions/temporal-functions, /req/temporal-functions/temporal-predicates: temporal functions of instants and intervals', async () => {
  const between = {
    date: "'2021-01-01','2021-12-31'",
    timestamp: "'2021-01-01T00:00:00Z','2021-12-31T23:59:59Z'",
  }
  const instant = { date: "DATE('2022-04-24')", timestamp: "TIMESTAMP('2022-04-24T07:59:57Z')" }
  const either = ['T_AFTER', 'T_BEFORE', 'T_DISJOINT', 'T_EQUALS', 'T_INTERSECTS']
  const ofIntervals = [
    'T_CONTAINS',
    'T_DURING',
    'T_FINISHEDBY',
    'T_FINISHES',
    'T_MEETS',
    'T_METBY',
    'T_OVERLAPPEDBY',
    'T_OVERLAPS',
    'T_STARTEDBY',
    'T_STARTS',
  ]
  for (const type of ['date', 'timestamp'] as const) {
    const [start, end] = PROPERTIES[type][0]
    for (const name of PROPERTIES[type][0])
      for (const literal of [instant[type], `INTERVAL(${between[type]})`]) {
        const of = (op: string) => found(`${op}(${name},${literal})`)
        const [after, before, apart, , meeting] = await Promise.all(either.map(of))
        assert.deepEqual(after!.union(before!), apart, name)
        areApart(apart!, meeting!, name)
        assert.deepEqual(apart!.union(meeting!), await rows(`${name} is not null`), name)
      }
    const known = await rows(`${start} is not null and ${end} is not null`)
    const relations = new Map<string, Set<number>>()
    for (const op of [...either, ...ofIntervals])
      relations.set(op, await found(`${op}(INTERVAL(${start},${end}),INTERVAL(${between[type]}))`))
    // Exactly one of Allen's thirteen relations holds between two intervals.
    const allen = ['T_AFTER', 'T_BEFORE', 'T_EQUALS', ...ofIntervals].map((op) => relations.get(op)!)
    for (const id of known) assert.equal(allen.filter((ids) => ids.has(id)).length, 1, String(id))
    await isRefused(`T_DURING(${start},INTERVAL(${between[type]}))`)
  }
  assert.equal(
    (await found("T_INTERSECTS(day,INTERVAL('..','..'))")).size,
    (await rows('day is not null')).size,
  )
})

test('/req/array-functions/array-predicates, /req/cql2-text/arrays, /req/cql2-json/arrays: lists are compared as sets', async () => {
  for (const [name, list, array] of [
    ['tags', "('foo','t1')", "array['foo','t1']"],
    ['numbers', '(1,2)', 'array[1,2]'],
    ['codes', "('foo','bar')", 'null::uuid[]'],
  ] as const) {
    const of = (op: string) => found(`${op}(${name},${list})`)
    const [equal, contains, contained, overlaps] = await Promise.all(
      ['A_EQUALS', 'A_CONTAINS', 'A_CONTAINEDBY', 'A_OVERLAPS'].map(of),
    )
    assert.deepEqual(contains!.intersection(contained!), equal, name)
    if (name === 'codes') continue
    assert.deepEqual(contains, await rows(`${name} @> ${array}`), name)
    assert.deepEqual(contained, await rows(`${name} <@ ${array}`), name)
    assert.deepEqual(overlaps, await rows(`${name} && ${array}`), name)
  }
  assert.equal((await found("A_EQUALS(('a',true,1),(1,'a',true,1))")).size, 60)
  assert.equal((await found('A_CONTAINS((POINT(1 1),(1,2)),((2,1)))')).size, 60)
  assert.deepEqual(await found('A_CONTAINS(tags,tags)'), await rows('tags is not null'))
})

test('/req/property-property/withdraw-permissions: properties and literals can stand on either side', async () => {
  const OPPOSITES = [
    ['=', '<>'],
    ['>', '<='],
    ['<', '>='],
  ] as const
  for (const [name, value] of scalars) {
    for (const [one, other] of OPPOSITES)
      areApart(await found(`${value} ${one} ${name}`), await found(`${value} ${other} ${name}`), name)
    const known = await rows(`${name} is not null`)
    for (const op of ['=', '>=', '<=']) assert.deepEqual(await found(`${name} ${op} ${name}`), known, name)
    for (const op of ['<>', '>', '<']) assert.equal((await found(`${name} ${op} ${name}`)).size, 0, name)
    for (const op of ['=', '>=', '<=']) assert.equal((await found(`${value} ${op} ${value}`)).size, 60, value)
    for (const op of ['<>', '>', '<']) assert.equal((await found(`${value} ${op} ${value}`)).size, 0, value)
  }
  assert.deepEqual(await found("'Foo' LIKE 'F%'"), await all())
  assert.deepEqual(await found('3 BETWEEN small AND id'), await rows('3 between small and id'))
  assert.deepEqual(await found("'Foo' IN (name,'x')"), await rows("name = 'Foo'"))
  assert.deepEqual(await found('S_CONTAINS(geom,geom)'), await rows('st_contains(geom, geom)'))
  assert.deepEqual(await found('S_WITHIN(POINT(1 1),BBOX(0,0,2,2))'), await all())
  assert.deepEqual(await found('T_BEFORE(day,until)'), await rows('day < until'))
  assert.deepEqual(await found("T_AFTER(DATE('2022-01-01'),day)"), await rows("day < '2022-01-01'"))
})

test('/req/functions/functions, /req/cql2-text/functions, /req/cql2-json/functions: functions can stand wherever their results can', async () => {
  assert.deepEqual(await found("lower(name) = 'foo'"), await rows("lower(name) = 'foo'"))
  assert.deepEqual(await found("CASEI(upper(name)) LIKE 'foo%'"), await rows("lower(name) like 'foo%'"))
  assert.deepEqual(await found('length(name) IN (3, abs(-4))'), await rows('length(name) in (3, 4)'))
  assert.deepEqual(
    await found('abs(small - 3) BETWEEN 1 AND length(lower(name))'),
    await rows('abs(small - 3) between 1 and length(name)'),
  )
  assert.deepEqual(
    await found('T_BEFORE(INTERVAL(seen,now()),now()) OR seen < now()'),
    await rows('seen < now()'),
  )
  assert.deepEqual(
    await found('s_dwithin(geom,POINT(7 50),20000)'),
    await rows("st_dwithin(st_segmentize(geom, 90)::geography, 'SRID=4326;POINT(7 50)'::geography, 20000)"),
  )
  await isRefused('nothing(name) = 1')
  await isRefused('lower(id) = 1')
})

test('/req/arithmetic/arithmetic: every operator computes, and what is unknown has no result', async () => {
  for (const name of [...PROPERTIES.number[0], ...PROPERTIES.integer[0]]) {
    assert.deepEqual(await found(`${name} + 1 > 2 * 2 - 3`), await rows(`${name} > 0`), name)
    assert.deepEqual(
      await found(`(${name} + 1) * 2 / 2 - 1 = ${name}`),
      await rows(`${name} is not null`),
      name,
    )
    assert.deepEqual(await found(`-${name} < 0`), await rows(`${name} > 0`), name)
  }
  assert.deepEqual(await found('small ^ 2 = 9'), await rows('small = 3'))
  assert.deepEqual(await found('id % 7 = 3 AND id div 7 = 2'), await rows('id = 17'))
  assert.deepEqual(await found('2 + 3 * 2 ^ 2 - 7 div 2 = 11'), await all())
  assert.deepEqual(await found('(small + 1 = 2) IS NULL'), await rows('small is null'))
})

test('/req/cql2-text/escaping: quotes are doubled or escaped, and a backslash writes control characters', async () => {
  await session.query(
    `insert into samples (id, name) values (101, E'\\a\\b\\t\\n\\v\\f\\r'), (102, 'it''s'), (103, 'back\\slash')`.replace(
      "E'\\a\\b\\t\\n\\v\\f\\r'",
      "E'\\x07\\b\\t\\n\\x0b\\f\\r'",
    ),
  )
  assert.deepEqual([...(await found("name = '\\a\\b\\t\\n\\v\\f\\r'"))], [101])
  assert.deepEqual([...(await found("name = 'it''s'"))], [102])
  assert.deepEqual([...(await found("name = 'it\\'s'"))], [102])
  assert.deepEqual([...(await found("name = 'back\\\\slash'"))], [103])
  await session.query('delete from samples where id > 100')
})

test('/req/basic-cql2/cql2-filter: conditions are combined by AND, OR, NOT and brackets', async () => {
  assert.deepEqual(
    await found('small = 1 OR small = 2 AND flag = true'),
    await rows('small = 1 or (small = 2 and flag)'),
  )
  const filters = [...evaluated].filter((filter) => filter.length < 200)
  const pick = () => `(${filters[Math.floor(random() * filters.length)]})`
  for (let round = 0; round < 25; round++) {
    const [a, b, c, d] = [pick(), pick(), pick(), pick()]
    const ids = await found(`((NOT ${a} AND ${b}) OR (${c} and NOT ${d}) or not (${a} AND ${d}))`)
    const sets = await Promise.all([a, b, c, d].map((filter) => idsOf({ filter })))
    const opposites = await Promise.all([a, d].map((filter) => idsOf({ filter: `NOT ${filter}` })))
    const [, second, third] = sets as [Set<number>, Set<number>, Set<number>]
    const [notA, notD] = opposites as [Set<number>, Set<number>]
    const expected = notA.intersection(second).union(third.intersection(notD)).union(notA).union(notD)
    assert.deepEqual(ids.symmetricDifference(expected).size, 0, `${a} ${b} ${c} ${d}`)
  }
})
