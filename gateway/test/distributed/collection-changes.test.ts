// Tests collections that clients create, change and remove: their tables, their faults, and what no client may do.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openSession } from '../../database/session.ts'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { until } from '../support/until.ts'

const { client, session, catalog } = await startGateway()
const other = await startGateway()
const { writeUrl } = testDatabase()

const send = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
  client(path, {
    method,
    ...(body === undefined
      ? { headers }
      : {
          headers: { 'content-type': 'application/json', ...headers },
          body: typeof body === 'string' ? body : JSON.stringify(body),
        }),
  })
const create = async (body: object) => {
  const answer = await send('POST', '/collections', body)
  assert.equal(answer.status, 201, answer.text)
  return answer
}
const geometry = { 'x-ogc-role': 'primary-geometry', format: 'geometry-point' }
const schemaOf = (properties: object = {}, required: string[] = []) => ({
  type: 'object',
  properties: { geom: geometry, ...properties },
  required,
})
const point = (properties: object, coordinates = [10, 50]) => ({
  type: 'Feature',
  geometry: { type: 'Point', coordinates },
  properties,
})
const add = (collection: string, feature: object) => send('POST', `/collections/${collection}/items`, feature)
const faultsOf = async (body: unknown, method = 'POST', path = '/collections') => {
  const { status, json } = await send(method, path, body)
  assert.deepEqual([status, json.code], [422, 'collection-invalid'])
  return Object.fromEntries(json.errors.map(({ pointer, detail }: any) => [pointer, detail]))
}

/** One property of each type, as a schema shows it. */
const EVERY_TYPE = {
  small: { type: 'integer', format: 'int16' },
  whole: { type: 'integer', format: 'int32', minimum: 0 },
  large: { type: 'integer', format: 'int64' },
  exact: { type: 'number', exclusiveMinimum: -1.5, maximum: 100 },
  single: { type: 'number', format: 'float' },
  double: { type: 'number', format: 'double' },
  yes: { type: 'boolean' },
  text: { type: 'string' },
  short: { type: 'string', maxLength: 10, minLength: 2 },
  kind: { type: 'string', enum: ['brook', "river's"] },
  day: { type: 'string', format: 'date' },
  at: { type: 'string', format: 'date-time' },
  uid: { type: 'string', format: 'uuid' },
  names: { type: 'array', items: { type: 'string' } },
  anything: { type: ['object', 'array', 'string', 'number', 'boolean'] },
  height: {
    title: 'Height',
    description: 'Above the ground',
    type: 'number',
    'x-ogc-unit': 'm',
    'x-ogc-definition': 'https://example.org/height',
  },
}

test('a collection has what its definition says, takes features, and another gateway serves it in two seconds', async () => {
  const { headers, status } = await create({
    id: 'made_trees',
    title: 'Trees',
    description: 'All of them',
    license: 'CC-BY-4.0',
    attribution: 'The city',
    crs: ['EPSG:25832', 'http://www.opengis.net/def/crs/EPSG/0/2154'],
    schema: schemaOf(EVERY_TYPE, ['text']),
  })
  assert.equal(status, 201)
  assert.equal(headers.get('location'), `${client.url}/collections/made_trees`)
  const { json } = await client('/collections/made_trees')
  assert.deepEqual([json.title, json.description, json.attribution], ['Trees', 'All of them', 'The city'])
  assert.deepEqual(json.distribution, { by: 'cell', level: 8 })
  for (const code of [25832, 2154]) assert.ok(json.crs.some((uri: string) => uri.endsWith(`/${code}`)))
  const schema = (await client('/collections/made_trees/schema')).json
  for (const [name, expected] of Object.entries(EVERY_TYPE)) {
    const { 'x-ogc-propertySeq': _place, 'x-ogc-role': _role, ...shown } = schema.properties[name]
    assert.deepEqual(shown, expected, name)
  }
  assert.deepEqual(schema.required, ['text'])
  assert.equal(schema.properties.geom.format, 'geometry-point')
  const added = await add('made_trees', point({ text: 'oak', exact: 3 }))
  assert.equal(added.status, 201, added.text)
  assert.match(added.json.id, /^\d+\./)
  assert.equal((await add('made_trees', point({}))).status, 422)
  assert.equal((await add('made_trees', point({ text: 'oak', kind: 'sea' }))).status, 422)
  await until(() => other.catalog.list().some(({ id }) => id === 'made_trees'), 2_000)
})

test('the schema of a collection creates another one like it', async () => {
  await create({ id: 'made_first', schema: schemaOf(EVERY_TYPE, ['short']) })
  const schema = (await client('/collections/made_first/schema')).json
  await create({ id: 'made_second', schema })
  const { $id: _second, ...copied } = (await client('/collections/made_second/schema')).json
  const { $id: _first, ...original } = schema
  assert.deepEqual(copied, { ...original, title: 'made_first' })
})

test('ids, distributions and times are as the definition has them', async () => {
  await create({
    id: 'made_numbered',
    distribution: { by: 'id' },
    schema: schemaOf({
      id: { 'x-ogc-role': 'id', type: 'integer' },
      noted: { type: 'string', format: 'date' },
      from: { type: 'string', format: 'date', 'x-ogc-role': 'primary-interval-start' },
      to: { type: 'string', format: 'date', 'x-ogc-role': 'primary-interval-end' },
    }),
  })
  const numbered = await add('made_numbered', point({ from: '2020-01-01', to: '2020-12-31' }))
  assert.equal(numbered.json.id, 1)
  const during = await client('/collections/made_numbered/items?datetime=2020-06-01')
  assert.equal(during.json.numberReturned, 1)
  await create({
    id: 'made_named',
    distribution: { by: 'reference' },
    schema: schemaOf({ id: { 'x-ogc-role': 'id', type: 'string' } }),
  })
  const named = await send('PUT', '/collections/made_named/items/mine', point({}))
  assert.deepEqual([named.status, named.json.id], [201, 'mine'])
  await create({ id: 'made_coarse', distribution: { by: 'cell', level: 3 }, schema: schemaOf() })
  assert.deepEqual((await client('/collections/made_coarse')).json.distribution, { by: 'cell', level: 3 })
})

test('every fault of a definition is named', async () => {
  const faults = await faultsOf({
    id: '1st',
    colour: 'red',
    title: 7,
    crs: ['somewhere'],
    distribution: { by: 'luck', level: 99 },
    schema: {
      type: 'array',
      additionalProperties: true,
      required: ['missing'],
      properties: {
        a: { type: 'complex' },
        b: { type: 'string', format: 'email' },
        c: { type: 'string', minimum: 1 },
        d: { type: 'integer', maxLength: 3 },
        e: { type: 'string', pattern: '^x' },
        cell: { type: 'string' },
        f: { type: 'string', 'x-ogc-role': 'primary-instant' },
        g: { type: 'number', enum: ['a'] },
      },
    },
  })
  assert.deepEqual(Object.keys(faults).toSorted(), [
    '/colour',
    '/crs/0',
    '/distribution/by',
    '/distribution/level',
    '/id',
    '/schema/additionalProperties',
    '/schema/properties',
    '/schema/properties/a/type',
    '/schema/properties/b/format',
    '/schema/properties/c/minimum',
    '/schema/properties/cell',
    '/schema/properties/d/maxLength',
    '/schema/properties/e/pattern',
    '/schema/properties/f/format',
    '/schema/properties/g/enum',
    '/schema/required',
    '/schema/type',
    '/title',
  ])
  assert.match(faults['/schema/properties/b/format'], /one of date, date-time, time, uuid/)
  assert.match(faults['/schema/properties'], /must have a geometry.*primary-geometry/)
  assert.deepEqual(Object.keys(await faultsOf([])), ['', '/id', '/schema'])
  const second = { format: 'geometry-line' }
  assert.match(
    (await faultsOf({ id: 'made_not', schema: schemaOf({ second }) }))['/schema/properties/second'],
    /second geometry/,
  )
  assert.match(
    (await faultsOf({ id: 'made_not', crs: ['EPSG:999999'], schema: schemaOf() }))['/crs/0'],
    /is no system of the database/,
  )
  const id = { type: 'integer', 'x-ogc-role': 'id' }
  assert.match(
    (await faultsOf({ id: 'made_not', schema: schemaOf({ id }) }))['/schema/properties/id/type'],
    /must be "string": in cells/,
  )
  assert.equal(
    catalog.list().some(({ id }) => id === 'made_not'),
    false,
  )
})

test('a name that is taken is a conflict, also for a table that is no collection', async () => {
  await create({ id: 'made_once', schema: schemaOf() })
  for (const id of ['made_once', 'spatial_ref_sys']) {
    const { status, json } = await send('POST', '/collections', { id, schema: schemaOf() })
    assert.deepEqual([status, json.code, json.collection], [409, 'collection-conflict', id])
  }
  const answers = await Promise.all(
    [1, 2, 3].map(() => send('POST', '/collections', { id: 'made_raced', schema: schemaOf() })),
  )
  assert.deepEqual(answers.map(({ status }) => status).toSorted(), [201, 409, 409])
})

test('a patch changes texts and adds properties, which features then have', async () => {
  await create({
    id: 'made_grown',
    title: 'Before',
    description: 'Words',
    schema: schemaOf({ n: { type: 'integer' } }),
  })
  await add('made_grown', point({ n: 1 }))
  const patch = (body: object) => send('PATCH', '/collections/made_grown', body)
  const grown = await patch({
    title: 'After',
    description: null,
    schema: {
      properties: { kind: { type: 'string', enum: ['a', 'b'], title: 'Kind', description: 'Of tree' } },
    },
  })
  assert.equal(grown.status, 204, grown.text)
  const { json } = await client('/collections/made_grown')
  assert.deepEqual([json.title, json.description], ['After', undefined])
  const { kind } = (await client('/collections/made_grown/schema')).json.properties
  assert.deepEqual([kind.enum, kind.title, kind.description], [['a', 'b'], 'Kind', 'Of tree'])
  assert.equal((await add('made_grown', point({ n: 2, kind: 'b' }))).status, 201)
  assert.equal((await add('made_grown', point({ n: 2, kind: 'c' }))).status, 422)
  const features = (await client('/collections/made_grown/items?sortby=n')).json.features
  assert.deepEqual(
    features.map(({ properties }: any) => properties),
    [
      { n: 1, kind: null },
      { n: 2, kind: 'b' },
    ],
  )
  const faults = await faultsOf(
    {
      id: 'x',
      schema: {
        properties: { n: { type: 'string' }, geom: geometry, m: { type: 'string' } },
        required: ['m'],
      },
    },
    'PATCH',
    '/collections/made_grown',
  )
  assert.deepEqual(Object.keys(faults).toSorted(), [
    '/id',
    '/schema/properties/geom',
    '/schema/properties/n',
    '/schema/required',
  ])
})

test('a collection is removed only with its id as a confirmation, and its name is free again', async () => {
  await create({ id: 'made_gone', title: 'Gone', schema: schemaOf() })
  await add('made_gone', point({}))
  const bare = await send('DELETE', '/collections/made_gone')
  assert.deepEqual(
    [bare.status, bare.json.code, bare.json.example],
    [428, 'precondition-required', 'made_gone'],
  )
  const wrong = await send('DELETE', '/collections/made_gone?confirm=made')
  assert.deepEqual([wrong.status, wrong.json.parameter], [400, 'confirm'])
  assert.equal((await client('/collections/made_gone/items')).json.numberReturned, 1)
  assert.equal((await send('DELETE', '/collections/made_gone?confirm=made_gone')).status, 204)
  assert.equal((await client('/collections/made_gone')).status, 404)
  assert.equal((await send('DELETE', '/collections/made_gone?confirm=made_gone')).status, 404)
  await create({ id: 'made_gone', schema: schemaOf() })
  const { json } = await client('/collections/made_gone')
  assert.equal(json.title, 'made_gone')
  assert.equal((await client('/collections/made_gone/items')).json.numberReturned, 0)
})

test('a table that Tessera did not create, and one that a view reads, stay', async () => {
  await session.query(
    'create table made_theirs (id int primary key, geom geometry(Point, 4326), updated_at timestamptz)',
  )
  await catalog.reload()
  const { status, json } = await send('DELETE', '/collections/made_theirs?confirm=made_theirs')
  assert.deepEqual([status, json.code], [403, 'change-forbidden'])
  assert.match(json.detail, /Tessera has not created the table of made_theirs/)
  assert.equal((await send('PATCH', '/collections/made_theirs', { title: 'Mine' })).status, 403)
  await create({ id: 'made_read', schema: schemaOf() })
  await session.query('create view made_view as select * from made_read')
  const read = await send('DELETE', '/collections/made_read?confirm=made_read')
  assert.deepEqual([read.status, read.json.code], [409, 'collection-conflict'])
  assert.match(
    read.json.detail,
    /made_read cannot be removed: view public.made_view depends on table public.made_read/,
  )
  assert.equal((await client('/collections/made_read')).status, 200)
})

test('the role of the gateway gets no more than the functions give', async () => {
  const writer = await openSession(writeUrl!, 'test')
  try {
    for (const statement of [
      'create table public.made_by_hand (id int)',
      "select tessera.create_table('made_by_hand', '{}')",
      'drop table public.made_once',
      `comment on column public.made_theirs.updated_at is 'Time of the last change through Tessera, which has created this table.'`,
      "update tessera.collection set is_managed = true where table_name = 'made_theirs'",
    ])
      await assert.rejects(writer.query(statement), statement)
    const evil = (type: string, name = 'made_evil') =>
      writer.query('select tessera.create_collection($1, $2, $3)', [
        name,
        JSON.stringify({
          columns: [{ name: 'x', type, isRequired: false }],
          geometry: { type: 'Point', isRequired: false },
          idType: 'text',
          level: null,
          distribution: 'id',
        }),
        '{}',
      ])
    for (const type of ['text); drop table public.made_once; --', 'cstring', 'made_once', 'geometry'])
      await assert.rejects(evil(type), type)
    await assert.rejects(evil('text', 'a"b'), /cannot name a collection/)
    const [row] = await writer.query<{ found: string | null }>(
      "select to_regclass('public.made_evil')::text as found",
    )
    assert.equal(row!.found, null)
    for (const [text, values] of [
      ["select tessera.drop_collection('made_theirs') as done", []],
      ["select tessera.drop_collection('spatial_ref_sys') as done", []],
      ["select tessera.alter_collection('made_theirs', '[]', '{}') as done", []],
    ] as const)
      assert.deepEqual(await writer.query(text, values), [{ done: false }], text)
  } finally {
    await writer.close()
  }
})

test('what runs with the rights of the owner has a fixed search path, and only the writer may call it', async () => {
  const functions = await session.query<{
    name: string
    config: string[]
    readers: boolean
    writers: boolean
  }>(`
    select proname as name, proconfig as config,
      has_function_privilege('tessera_read', oid, 'execute') as readers,
      has_function_privilege('tessera_write', oid, 'execute') as writers
    from pg_proc where pronamespace = 'tessera'::regnamespace and prosecdef order by proname`)
  const names = [
    'alter_collection',
    'create_collection',
    'create_key',
    'drop_collection',
    'note_use_of_keys',
    'revoke_key',
    'rotate_key',
    'set_rules',
    'tend_audit',
  ]
  const tending = ['TimeZone=UTC', 'lock_timeout=500ms']
  const expected = names.map((name) => ({
    name,
    config: ['search_path=pg_catalog, pg_temp', ...(name === 'tend_audit' ? tending : [])],
    readers: false,
    writers: true,
  }))
  assert.deepEqual(functions, expected)
})
