// Tests JSON-FG: features and pages in it, which the standard's own schemas validate, and bodies of changes.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { before, test } from 'node:test'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormatsModule from 'ajv-formats'
import { resetCollection, setCollection } from '../../features/collections/settings.ts'
import { distributeById } from '../support/distribute.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()

const schemas = JSON.parse(
  readFileSync(new URL('../data/jsonfg/schemas.json', import.meta.url), 'utf8'),
) as object[]
const ajv = new Ajv2020({ strict: false, schemas })
;(addFormatsModule as unknown as (ajv: Ajv2020) => void)(ajv)
const validate = ajv.getSchema('https://schemas.opengis.net/json-fg/jsonfg-root-object.json')!
const isValid = (document: object) => assert.ok(validate(document), ajv.errorsText(validate.errors))

const epsg = (code: number) => `http://www.opengis.net/def/crs/EPSG/0/${code}`
const CORE = 'http://www.opengis.net/spec/json-fg-1/1.0/conf/core'
const TYPES = 'http://www.opengis.net/spec/json-fg-1/1.0/conf/types-schemas'
const profileOf = ({ headers }: { headers: Headers }) =>
  /<http:\/\/www\.opengis\.net\/def\/profile\/OGC\/0\/([\w-]+)>; rel="profile"/.exec(
    headers.get('link') ?? '',
  )?.[1]

before(async () => {
  await session.query(`
    create table fg_events (id int primary key, geom geometry(Point, 25832), name text, at timestamptz);
    create table fg_days (id int primary key, geom geometry(PointZ, 4326), day date);
    create table fg_areas (id int primary key, geom geometry(Geometry, 4326), "geometry" text);
    create table fg_periods (id int primary key, geom geometry(Point, 4326), starts timestamptz, ends timestamptz);
    insert into fg_periods values (1, null, '2020-01-01', '2020-12-31'), (2, null, '2020-01-01', null),
      (3, null, null, '2020-12-31'), (4, null, null, null), (5, null, '2021-01-01', '2020-01-01');
    insert into fg_events select i, st_setsrid(st_makepoint(500000 + i * 1000, 5500000), 25832), 'n' || i,
      '2024-02-29T12:00:00.5Z'::timestamptz + i * interval '1 day' from generate_series(1, 5) i;
    insert into fg_events values (6, null, 'no place', null), (7, 'SRID=25832;POINT(500000 5500000)', 'old', '0044-03-15 BC'),
      (8, 'SRID=25832;POINT(500000 5500000)', 'whole', '2024-02-29T12:00:00Z'),
      (9, 'SRID=25832;POINT(NaN 5500000)', 'odd', 'infinity');
    insert into fg_days values (1, 'SRID=4326;POINT Z (10 50 100)', '2024-02-29'), (2, null, null);
    insert into fg_areas values (1, 'SRID=4326;POLYGON((9 49, 11 49, 11 51, 9 51, 9 49))', 'x'),
      (2, 'SRID=4326;POINT(10 50)', '"geometry":{"place":{'), (3, 'SRID=4326;LINESTRING(10 50, 11 51)', null)`)
  await distributeById(session, 'fg_events', 'fg_days', 'fg_areas', 'fg_periods')
  await catalog.reload()
})

const ask = async (path: string, parameters: Record<string, string> = {}, headers = {}) => {
  const answer = await client(`/collections/${path}?${new URLSearchParams(parameters)}`, { headers })
  assert.equal(answer.status, 200, answer.text)
  return answer
}
const FORMS = [{ f: 'jsonfg' }, { profile: 'jsonfg' }, { profile: 'jsonfg-plus' }]

test('/req/core/schema-valid, /req/core/metadata, /req/types-schemas/metadata, /req/profiles/jsonfg, /req/core/coordinate-dimension, /req/core/valid-geometry: pages and features meet the schema of the standard, and name its classes at their root', async () => {
  for (const collection of ['fg_events', 'fg_days', 'fg_areas', 'countries']) {
    for (const form of FORMS) {
      for (const crs of [undefined, epsg(4326), epsg(3857)]) {
        const parameters = { ...form, ...(crs ? { crs } : {}) }
        const { json: page } = await ask(`${collection}/items`, { ...parameters, limit: '20' })
        isValid(page)
        const [first] = page.features
        const { json: feature } = await ask(`${collection}/items/${first.id}`, parameters)
        isValid(feature)
        for (const root of [page, feature]) assert.deepEqual(root.conformsTo, [CORE, TYPES])
        for (const part of page.features) assert.equal(part.conformsTo, undefined)
      }
    }
  }
})

test('/req/core/place-geometries, /req/core/geometry-wgs84, /req/core/geometry-no-jsonfg-extension, /req/core/same-crs, /req/core/axis-order, /req/core/fallback: a geometry is in `geometry` in longitude and latitude, and in `place` in any other system', async () => {
  const plain = (await ask('fg_days/items/1', { f: 'jsonfg' })).json
  assert.deepEqual(plain.geometry, { type: 'Point', coordinates: [10, 50, 100] })
  assert.deepEqual([plain.place, plain.coordRefSys], [undefined, undefined])
  const north = (await ask('fg_days/items/1', { f: 'jsonfg', crs: epsg(4326) })).json
  assert.deepEqual(
    [north.geometry, north.place, north.coordRefSys],
    [null, { type: 'Point', coordinates: [50, 10, 100] }, epsg(4326)],
  )
  const own = (await ask('fg_events/items', { profile: 'jsonfg', crs: epsg(25832), limit: '20' })).json
  assert.equal(own.coordRefSys, epsg(25832))
  const [first] = own.features
  assert.deepEqual(first.place, { type: 'Point', coordinates: [501000, 5500000] })
  assert.ok(own.features.every((one: object) => !('coordRefSys' in one)))
  assert.ok(own.features.every((one: { geometry: unknown }) => one.geometry === null))
  const odd = own.features.find(({ id }: { id: number }) => id === 9)
  assert.equal(odd.place ?? null, null)
})

test('/req/profiles/jsonfg-plus: with jsonfg-plus, each feature with a place has a geometry in longitude and latitude', async () => {
  const { json } = await ask('fg_events/items', { profile: 'jsonfg-plus', crs: epsg(25832), limit: '20' })
  for (const { place, geometry } of json.features) assert.equal(place == null, geometry == null)
  const [{ geometry, place }] = json.features
  assert.deepEqual(place.coordinates, [501000, 5500000])
  assert.ok(
    Math.abs(geometry.coordinates[0] - 9.014) < 0.001 && Math.abs(geometry.coordinates[1] - 49.65) < 0.01,
  )
})

test('/req/core/instant, /req/core/interval, /req/core/instant-and-interval, /req/core/utc: the time of a feature is a date or a timestamp in UTC, and null if there is none', async () => {
  const { json } = await ask('fg_events/items', { f: 'jsonfg', limit: '20' })
  const timeOf = (id: number) => json.features.find((one: { id: number }) => one.id === id).time
  assert.deepEqual(timeOf(1), { timestamp: '2024-03-01T12:00:00.5Z' })
  assert.deepEqual(timeOf(8), { timestamp: '2024-02-29T12:00:00Z' })
  assert.deepEqual([timeOf(6), timeOf(7), timeOf(9)], [null, null, null])
  const days = (await ask('fg_days/items', { f: 'jsonfg' })).json.features
  assert.deepEqual(
    days.map(({ time }: { time: unknown }) => time),
    [{ date: '2024-02-29' }, null],
  )
  assert.ok(!('time' in (await ask('fg_areas/items/1', { f: 'jsonfg' })).json))
})

test('/req/core/interval: a time with a start and an end is an interval, which may be open on one side, and can be sent', async () => {
  await setCollection(session, 'fg_periods', { timeColumns: ['starts', 'ends'] })
  await catalog.reload()
  const { json } = await ask('fg_periods/items', { f: 'jsonfg' })
  isValid(json)
  const times = new Map(json.features.map(({ id, time }: { id: number; time: unknown }) => [id, time]))
  assert.deepEqual(
    [1, 2, 3, 4, 5].map((id) => times.get(id)),
    [
      { interval: ['2020-01-01T00:00:00Z', '2020-12-31T00:00:00Z'] },
      { interval: ['2020-01-01T00:00:00Z', '..'] },
      { interval: ['..', '2020-12-31T00:00:00Z'] },
      null,
      null,
    ],
  )
  const feature = (await ask('fg_periods/items/2', { f: 'jsonfg' })).json
  const sent = await send('PUT', 'fg_periods/items/2', feature)
  assert.deepEqual(sent.json.properties, feature.properties)
  const changed = await send('PATCH', 'fg_periods/items/2', {
    conformsTo: [CORE],
    time: { interval: ['..', '2021-05-01T00:00:00Z'] },
  })
  assert.equal(changed.json.properties.starts, null)
  assert.equal(Date.parse(changed.json.properties.ends), Date.parse('2021-05-01'))
  const wrong = await send('PATCH', 'fg_periods/items/2', { conformsTo: [CORE], time: { interval: ['..'] } })
  assert.deepEqual(pointers(wrong), ['/time'])
  await resetCollection(session, 'fg_periods', ['timeColumns'])
})

test('/req/types-schemas/feature-type, /req/types-schemas/geometry-dimension, /req/types-schemas/feature-schemas, /req/types-schemas/single-feature-schema: the type of features and their schema are named once', async () => {
  const page = (await ask('fg_events/items', { f: 'jsonfg' })).json
  assert.deepEqual([page.featureType, page.geometryDimension], ['fg_events', 0])
  const schema = await client(page.featureSchema)
  assert.equal(schema.json.properties.name.type, 'string')
  const feature = (await ask('fg_events/items/1', { f: 'jsonfg' })).json
  assert.deepEqual([feature.featureType, feature.featureSchema], ['fg_events', page.featureSchema])
  assert.equal((await ask('countries/items', { f: 'jsonfg' })).json.geometryDimension, 2)
  assert.equal((await ask('fg_areas/items', { f: 'jsonfg' })).json.geometryDimension, undefined)
})

test('/req/api/profile-parameter, /req/profile-parameter/profile-param, /req/profile-parameter/profile-param-response, /req/profiles/rfc7946: `profile` chooses among the profiles of GeoJSON, and a link names the one of the answer', async () => {
  for (const path of ['fg_events/items', 'fg_events/items/1']) {
    const cases: [Record<string, string>, string, string][] = [
      [{}, 'rfc7946', 'application/geo+json'],
      [{ profile: 'rfc7946' }, 'rfc7946', 'application/geo+json'],
      [{ profile: 'jsonfg' }, 'jsonfg', 'application/geo+json'],
      [{ profile: 'unheard-of,jsonfg-plus' }, 'jsonfg-plus', 'application/geo+json'],
      [{ profile: 'http://www.opengis.net/def/profile/OGC/0/jsonfg' }, 'jsonfg', 'application/geo+json'],
      [{ profile: 'unheard-of' }, 'rfc7946', 'application/geo+json'],
      [{ f: 'jsonfg' }, 'jsonfg', 'application/fg+json'],
      [{ f: 'jsonfg', profile: 'jsonfg-plus' }, 'jsonfg-plus', 'application/fg+json'],
    ]
    for (const [parameters, profile, type] of cases) {
      const answer = await ask(path, parameters)
      assert.equal(profileOf(answer), profile, JSON.stringify(parameters))
      assert.ok(answer.type.startsWith(type), answer.type)
      assert.equal(answer.json.conformsTo === undefined, profile === 'rfc7946')
      assert.equal((await client(answer.json.links[0].href)).status, 200)
    }
    const accepted = await ask(path, {}, { accept: 'application/fg+json' })
    assert.deepEqual([profileOf(accepted), accepted.json.featureType], ['jsonfg', 'fg_events'])
  }
  const csv = await ask('fg_events/items', { f: 'csv', profile: 'jsonfg' })
  assert.equal(profileOf(csv), undefined)
  const next = (await ask('fg_events/items', { profile: 'jsonfg', limit: '2' })).json.links.find(
    ({ rel }: { rel: string }) => rel === 'next',
  )
  assert.equal((await client(next.href)).json.featureType, 'fg_events')
})

test('a feature has a tag of its own in each profile, and changes take any of them', async () => {
  const tags = await Promise.all(
    [{}, ...FORMS.slice(1)].map(async (form) => (await ask('fg_events/items/2', form)).headers.get('etag')!),
  )
  assert.equal(new Set(tags).size, 3)
  const changed = await client('/collections/fg_events/items/2', {
    method: 'PATCH',
    headers: { 'content-type': 'application/merge-patch+json', 'if-match': tags[2]! },
    body: '{"properties":{"name":"by tag"}}',
  })
  assert.equal(changed.status, 200, changed.text)
})

const send = (method: string, path: string, body: object, headers = {}) =>
  client(`/collections/${path}`, {
    method,
    headers: {
      'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/fg+json',
      ...headers,
    },
    body: JSON.stringify(body),
  })
const pointers = ({ json }: { json: { errors?: { pointer: string }[] } }) =>
  json.errors?.map(({ pointer }) => pointer)

test('a feature that was read in JSON-FG can be sent back, and stays as it is', async () => {
  for (const id of [1, 6, 7]) {
    for (const form of [...FORMS, { f: 'jsonfg', crs: epsg(25832) }, { f: 'jsonfg', crs: epsg(4326) }]) {
      const path = `fg_events/items/${id}`
      const before = await ask(path)
      const { json } = await ask(path, form)
      const sent = await send('PUT', path, json)
      assert.equal(sent.status, 200, sent.text)
      assert.deepEqual(sent.json.properties, before.json.properties)
      assert.deepEqual(sent.json.geometry, before.json.geometry)
    }
  }
})

test('a new feature has its place in the system of coordRefSys, and its time in the temporal column', async () => {
  const body = {
    type: 'Feature',
    conformsTo: [CORE],
    id: 20,
    featureType: 'fg_events',
    coordRefSys: epsg(25832),
    geometry: null,
    place: { type: 'Point', coordinates: [500000, 5500000] },
    time: { timestamp: '2024-01-01T00:00:00Z' },
    properties: { name: 'new' },
  }
  const created = await send('POST', 'fg_events/items', body)
  assert.equal(created.status, 201, created.text)
  const read = (await ask('fg_events/items/20', { f: 'jsonfg', crs: epsg(25832) })).json
  assert.deepEqual([read.place, read.time], [body.place, body.time])
  const moved = await send('PATCH', 'fg_events/items/20', {
    conformsTo: [CORE],
    coordRefSys: { type: 'Reference', href: epsg(4326) },
    place: { type: 'Point', coordinates: [50, 9] },
    time: null,
  })
  assert.deepEqual(moved.json.geometry.coordinates.map(Math.round), [9, 50])
  assert.equal(moved.json.properties.at, null)
  const none = await send('PATCH', 'fg_events/items/20', { conformsTo: [CORE], place: null })
  assert.equal(none.json.geometry, null)
})

test('a body in JSON-FG is refused where it contradicts itself or the collection', async () => {
  const body = {
    type: 'Feature',
    conformsTo: [CORE],
    id: 30,
    geometry: null,
    properties: { name: 'x', at: '2024-01-01T00:00:00Z' },
  }
  const place = { type: 'Point', coordinates: [500000, 5500000] }
  const cases: [object, string[]][] = [
    [{ time: { timestamp: '2025-01-01T00:00:00Z' } }, ['/time']],
    [{ properties: { name: 'x' }, time: { date: '2025-01-01' } }, ['/time']],
    [{ featureType: 'road' }, ['/featureType']],
    [{ coordRefSys: epsg(2154), place: { type: 'Point', coordinates: [10, 50] } }, ['/coordRefSys']],
    [{ coordRefSys: epsg(25832), place: { ...place, type: 'Circle' } }, ['/place']],
    [
      {
        coordRefSys: epsg(25832),
        place: {
          type: 'LineString',
          coordinates: [
            [0, 0],
            [1, 1],
          ],
        },
      },
      ['/place/type'],
    ],
    [{ measures: { enabled: true } }, ['/measures']],
    [{ conformsTo: undefined, place }, ['/place']],
  ]
  for (const [members, expected] of cases) {
    const refused = await send('POST', 'fg_events/items', { ...body, ...members })
    assert.deepEqual([refused.status, pointers(refused)], [422, expected], refused.text)
  }
  const header = { 'content-crs': `<${epsg(3857)}>` }
  const contradiction = await send(
    'POST',
    'fg_events/items',
    { ...body, coordRefSys: epsg(25832), place },
    header,
  )
  assert.deepEqual([contradiction.status, pointers(contradiction)], [422, ['/coordRefSys']])
  const timeless = await send('POST', 'fg_areas/items', {
    ...body,
    properties: {},
    time: { date: '2024-01-01' },
  })
  assert.deepEqual(pointers(timeless), ['/time'])
})
