// Tests the schemas of collections against what the API returns, accepts and refuses.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createConfig, lintFromString } from '@redocly/openapi-core'
import { Ajv2020 } from 'ajv/dist/2020.js'
import type { FeatureCollection } from 'geojson'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()

await session.query(`
  create type brook_mood as enum ('calm', 'wild');
  create domain brook_share as numeric check (value >= 0 and value <= 100);
  create table brooks (
    id int generated always as identity primary key,
    name varchar(40) not null check (length(name) >= 2),
    kind text not null default 'brook' check (kind in ('brook', 'river')),
    mood brook_mood,
    depth float4 check (depth > 0),
    share brook_share,
    bridges int2,
    seen date,
    measured timestamptz,
    tag uuid,
    facts jsonb,
    gauges int8[],
    doubled int generated always as (bridges * 2) stored,
    geom geometry(MultiLineStringZ, 4326) not null
  );
  comment on column brooks.name is E'Name\\nAs the map has it\\ndefinition: https://example.org/name';
  comment on column brooks.depth is E'Greatest depth\\nunit: m';
  insert into brooks (name, geom, depth, seen) values
    ('Aa', 'SRID=4326;MULTILINESTRING Z((1 1 1, 2 2 2))', 1.5, '2020-01-01');
  insert into brooks (name, geom, mood, share, bridges, measured, tag, facts, gauges) values
    ('Bb', 'SRID=4326;MULTILINESTRING Z((1 1 1, 2 2 2))', 'calm', 12.5, 3, now(), gen_random_uuid(), '[1]', '{1,2}')`)
await catalog.reload()

type Schema = {
  readonly $id: string
  readonly properties: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly required?: readonly string[]
  readonly additionalProperties: boolean
}
const schemaAt = async (path: string) => {
  const { status, json, type } = await client(path, { headers: { accept: 'application/schema+json' } })
  assert.equal(status, 200, path)
  assert.match(type, /^application\/schema\+json/)
  return json as Schema
}

test('/conf/schemas, /conf/advanced-property-roles: a schema says what PostgreSQL knows of each property', async () => {
  const { properties, required, additionalProperties, ...rest } = await schemaAt('/collections/brooks/schema')
  assert.equal(additionalProperties, false)
  assert.match(rest.$id, /\/collections\/brooks\/schema$/)
  assert.deepEqual(required, ['name'])
  const expected: Record<string, unknown> = {
    id: { type: 'integer', format: 'int32', 'x-ogc-role': 'id', readOnly: true },
    name: {
      title: 'Name',
      description: 'As the map has it',
      'x-ogc-definition': 'https://example.org/name',
      type: 'string',
      minLength: 2,
      maxLength: 40,
    },
    kind: { type: 'string', enum: ['brook', 'river'] },
    mood: { type: 'string', enum: ['calm', 'wild'] },
    depth: {
      description: 'Greatest depth',
      'x-ogc-unit': 'm',
      type: 'number',
      format: 'float',
      exclusiveMinimum: 0,
    },
    share: { type: 'number', minimum: 0, maximum: 100 },
    bridges: { type: 'integer', format: 'int16' },
    seen: { type: 'string', format: 'date', 'x-ogc-role': 'primary-instant' },
    measured: { type: 'string', format: 'date-time' },
    tag: { type: 'string', format: 'uuid' },
    facts: { type: ['object', 'array', 'string', 'number', 'boolean'] },
    gauges: { type: 'array', items: { type: 'integer', format: 'int64' } },
    doubled: { type: 'integer', format: 'int32', readOnly: true },
    geom: { 'x-ogc-role': 'primary-geometry', format: 'geometry-multilinestring' },
  }
  for (const [name, { 'x-ogc-propertySeq': position, ...property }] of Object.entries(properties)) {
    assert.deepEqual(property, expected[name], name)
    assert.equal(position, Object.keys(properties).indexOf(name) + 1)
  }
  assert.deepEqual(Object.keys(properties), Object.keys(expected))
})

test('/conf/sortables: sortables can be sorted by, and nothing else can', async () => {
  const { properties } = await schemaAt('/collections/brooks/sortables')
  assert.equal(properties.geom, undefined)
  for (const name of Object.keys(properties))
    assert.equal((await client(`/collections/brooks/items?sortby=${name}`)).status, 200, name)
  const { properties: all } = await schemaAt('/collections/brooks/schema')
  for (const name of Object.keys(all).filter((name) => !(name in properties)))
    assert.equal((await client(`/collections/brooks/items?sortby=${name}`)).status, 400, name)
})

test('every queryable with a simple value is a parameter', async () => {
  const { properties } = await schemaAt('/collections/brooks/queryables')
  assert.equal(properties.geom!.format, 'geometry-multilinestring')
  const [feature] = ((await client('/collections/brooks/items?name=Aa')).json as FeatureCollection).features
  for (const name of ['id', 'name', 'kind', 'depth', 'seen']) {
    assert.ok(name in properties, name)
    const value = name === 'id' ? feature!.id : feature!.properties![name]
    const { features } = (await client(`/collections/brooks/items?${name}=${value}`))
      .json as FeatureCollection
    assert.ok(
      features.some(({ id }) => id === feature!.id),
      name,
    )
  }
})

test('a collection links to its schemas, which are pages too', async () => {
  const { json } = await client('/collections/brooks')
  for (const aspect of ['schema', 'queryables', 'sortables']) {
    const rel = `http://www.opengis.net/def/rel/ogc/1.0/${aspect}`
    const link = (json.links as { rel: string; href: string; type: string }[]).find((one) => one.rel === rel)
    assert.equal(link?.type, 'application/schema+json')
    const { pathname } = new URL(link!.href)
    assert.equal((await schemaAt(pathname)).$id, link!.href)
    const page = await client(`${pathname}?f=html`)
    assert.equal(page.status, 200)
    assert.match(page.text, /<th scope="row"[^>]*>seen<\/th><td[^>]*>string, date<\/td>/)
  }
  assert.equal((await client('/collections/nowhere/queryables')).status, 404)
})

test('without a comment of several lines, a comment is the description', async () => {
  await session.query(`comment on column brooks.bridges is 'How many bridges cross it'`)
  await catalog.reload()
  const { properties } = await schemaAt('/collections/brooks/schema')
  assert.deepEqual(
    [properties.bridges!.title, properties.bridges!.description],
    [undefined, 'How many bridges cross it'],
  )
})

test("a collection's OpenAPI document has its properties, and only what can be done", async () => {
  await session.query('create view brooks_seen as select name, seen, geom from brooks')
  await catalog.reload()
  const { json: collection } = await client('/collections/brooks')
  const { href } = collection.links.find(({ rel }: { rel: string }) => rel === 'service-desc')
  const { json: document, text } = await client(new URL(href).pathname)
  const items = document.paths['/collections/brooks/items']
  const parameters = new Map(items.get.parameters.map((one: { name: string }) => [one.name, one]))
  assert.equal(parameters.has('property'), false)
  assert.deepEqual((parameters.get('depth') as { schema: unknown }).schema, {
    description: 'Greatest depth',
    type: 'number',
    format: 'float',
    minimum: 0,
    exclusiveMinimum: true,
    'x-ogc-unit': 'm',
  })
  const config = await createConfig({ extends: ['recommended'] })
  const problems = await lintFromString({ source: text, absoluteRef: 'openapi.json', config })
  assert.deepEqual(
    problems
      .filter(({ severity }) => severity === 'error')
      .map(({ message, location }) => [message, location[0]?.pointer]),
    [],
  )
  const { properties: members } = document.components.schemas.NewFeature.properties.properties
  assert.deepEqual(document.components.schemas.NewFeature.properties.properties.required, ['name'])
  assert.equal('doubled' in members, false)
  assert.deepEqual(Object.keys(items), ['get', 'post', 'patch', 'delete'])
  const { json: view } = await client('/collections/brooks_seen/api')
  assert.deepEqual(Object.keys(view.paths['/collections/brooks_seen/items']), ['get'])
})

test('the definition of the API has the items of each collection, with what they have in common by reference', async () => {
  // A name that no id of an operation may have as it is.
  await session.query('create table "schemas~ 100%" (id int primary key, geom geometry(Point, 4326))')
  await catalog.reload()
  const { json: document, text } = await client('/api')
  assert.equal(
    document.paths['/collections/schemas~%20100%25/items'].get.operationId,
    'getFeatures.schemas~7E~20100~25',
  )
  const resolve = ({ $ref }: { $ref: string }) =>
    $ref
      .slice(2)
      .split('/')
      .reduce((part, name) => part[name], document)
  const { get, post } = document.paths['/collections/cities/items']
  const { parameters: general } = document.paths['/collections/{collectionId}/items'].get
  const named = get.parameters.map((one: { $ref?: string; name?: string }) =>
    one.$ref === undefined ? one : resolve(one as { $ref: string }),
  )
  for (const { name, in: place } of general)
    if (place === 'query' && name !== 'property')
      assert.ok(
        named.some((one: { name: string }) => one.name === name),
        name,
      )
  const name = named.find((one: { name: string }) => one.name === 'name')
  assert.deepEqual(name, { name: 'name', in: 'query', schema: { type: 'string' } })
  assert.ok(resolve(get.responses[200]).content['application/geo+json'])
  assert.ok(resolve(post.requestBody).content)
  const config = await createConfig({ extends: ['recommended'] })
  const problems = await lintFromString({ source: text, absoluteRef: 'openapi.json', config })
  assert.deepEqual(
    problems
      .filter(({ severity }) => severity === 'error')
      .map(({ message, location }) => [message, location[0]?.pointer]),
    [],
  )
  await session.query('drop table "schemas~ 100%"')
})

test('/conf/returnables-and-receivables: features are what their schema says', async () => {
  const { properties: members } = await schemaAt('/collections/brooks/schema')
  const ajv = new Ajv2020({ strict: false, validateFormats: false })
  const { features } = (await client('/collections/brooks/items')).json as FeatureCollection
  for (const { properties } of features)
    for (const [name, value] of Object.entries(properties!))
      if (value !== null) assert.ok(ajv.validate(members[name]!, value), `${name}: ${ajv.errorsText()}`)
})
