// Tests `tessera copy`: every feature of another server once, however it pages and fails, and after interruptions.

import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { openSession, type Session } from '../../database/session.ts'
import type { ImportOptions } from '../../features/import/import.ts'
import { ImportError } from '../../features/import/import-error.ts'
import { copyCollection } from '../../features/import/remote/copy-collection.ts'
import { testDatabase } from '../support/database.ts'
import { type Behaviour, startFeaturesServer } from '../support/features-server.ts'
import { startGateway } from '../support/gateway.ts'
import { runTessera, startTessera } from '../support/process.ts'
import { until } from '../support/until.ts'

const { session, client, catalog } = await startGateway()
const { ownerUrl } = testDatabase()
const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
after(() => rmSync(folder, { recursive: true, force: true }))

const COUNT = 95
const features = Array.from({ length: COUNT }, (_, n) => ({
  type: 'Feature',
  id: `thing-${n}`,
  geometry: { type: 'Point', coordinates: [n + 0.123456789012345, 40 - n / 2] },
  properties: { n, name: `name ${n}`, day: '2024-02-29' },
}))
const PAGING = { features, paging: 'absolute', largest: 20, hasMatched: true } as const satisfies Behaviour

type Options = Partial<ImportOptions> & {
  readonly as?: Session
  readonly restart?: boolean
  readonly newIds?: boolean
  readonly keepsOrder?: boolean
  readonly headers?: Record<string, string>
  readonly pausesMs?: readonly number[]
}
let tables = 0

/** Copies in this process, with short pauses. */
async function copy(from: string, options: Options = {}) {
  const {
    as,
    restart = false,
    newIds = false,
    keepsOrder = false,
    headers = {},
    pausesMs = [1, 1],
    ...into
  } = options
  const { collection = `copied_${++tables}` } = into
  const notes: string[] = []
  const progress: { done: number; total: number | undefined }[] = []
  const owner = as ?? (await openSession(ownerUrl, 'test'))
  const place = join(folder, collection)
  try {
    await copyCollection(
      owner,
      { from, into: { ...into, collection }, folder: place, restart, newIds, keepsOrder, headers, pausesMs },
      (event) => {
        if (event.type === 'import-noted') notes.push(event.note)
        if (event.type === 'import-advanced') progress.push(event)
      },
      new AbortController().signal,
    )
  } catch (error) {
    Object.assign(error as Error, { notes })
    throw error
  } finally {
    await owner.close()
  }
  assert.equal(existsSync(place), false, 'the journal was left behind')
  return { collection, notes, progress }
}

const read = (collection: string) =>
  session.query<Record<string, any>>(
    `select *, st_asgeojson(geom, 15)::json as geom from "${collection}" order by n`,
  )
const numbersOf = async (collection: string) => (await read(collection)).map(({ n }) => n)
const all = features.map(({ properties }) => properties.n)
const typesOf = async (collection: string) =>
  Object.fromEntries(
    (
      await session.query<{ name: string; type: string }>(
        `select attname as name, format_type(atttypid, atttypmod) as type from pg_attribute
         where attrelid = $1::regclass and attnum > 0 and attname not in ('cell', 'id', 'geom', 'updated_at')`,
        [collection],
      )
    ).map(({ name, type }) => [name, type]),
  )
const failing = (pattern: RegExp) => (error: Error) => {
  assert.match(error.message, pattern)
  assert.ok(error instanceof ImportError)
  return true
}

test('a collection of Tessera arrives with its values, types, geometries and texts', async () => {
  await session.query(`
    create table copy_source (id int primary key, geom geometry(pointz, 4326), n smallint, large bigint, single real,
      double double precision, exact numeric, yes boolean, text text, day date, at timestamptz, code uuid, anything jsonb)`)
  await session.query(`
    insert into copy_source select n, case when n % 7 > 0 then st_setsrid(st_makepoint(n / 10.0, 46.123456789012345, n), 4326) end, n,
      9007199254740993 + n, 0.1, n / 3.0, 1.10 * n, n % 2 = 0, case when n % 3 > 0 then '2024-01-01' else E'a\\tb' end,
      date '2024-01-01' + n, timestamptz '2024-01-01 10:00:00.123+02' + n * interval '1 minute',
      '00000000-0000-0000-0000-000000000001', case when n % 2 = 0 then '"text"'::jsonb else '{"a": [1]}' end
    from generate_series(1, 1234) n`)
  await session.query('grant select on copy_source to tessera_read')
  await session.query(
    `insert into tessera.collection (schema_name, table_name, title, license) values ('public', 'copy_source', 'Things', 'CC0-1.0')`,
  )
  await catalog.reload()
  const { collection, notes } = await copy(`${client.url}/collections/copy_source/items?limit=100`, {
    distributeBy: 'id',
  })
  assert.deepEqual(await typesOf(collection), {
    n: 'smallint',
    large: 'bigint',
    single: 'real',
    double: 'double precision',
    exact: 'numeric',
    yes: 'boolean',
    text: 'text',
    day: 'date',
    at: 'timestamp with time zone',
    code: 'uuid',
    anything: 'jsonb',
  })
  const same = ['n', 'large', 'single', 'double', 'exact', 'yes', 'text', 'day', 'at', 'code', 'anything']
    .map((name) => `s.${name} is not distinct from c.${name}`)
    .join(' and ')
  const [row] = await session.query<{ same: number; copied: number }>(
    `select count(*)::int as same, (select count(*)::int from ${collection}) as copied
     from copy_source s join ${collection} c using (id)
     where ${same} and st_asgeojson(s.geom, 7) is not distinct from st_asgeojson(c.geom, 7)`,
  )
  assert.deepEqual(row, { same: 1234, copied: 1234 })
  assert.deepEqual(notes, [])
  const [texts] = await session.query<Record<string, unknown>>(
    'select title, license, is_managed from tessera.collection where table_name = $1',
    [collection],
  )
  assert.deepEqual([texts!.title, texts!.license, texts!.is_managed], ['Things', 'CC0-1.0', true])
})

for (const [how, behaviour] of [
  ['absolute links', {}],
  ['relative links', { paging: 'relative', hasMatched: false }],
  ['links in a header', { paging: 'header', hasMatched: false }],
  ['no links, but an offset', { paging: 'none' }],
  ['no links and no count', { paging: 'none', hasMatched: false }],
  ['a limit that it refuses', { refusesLarge: true, largest: 50 }],
  ['gzip', { isPacked: true }],
  ['a header that names the usual system', { contentCrs: '<http://www.opengis.net/def/crs/OGC/1.3/CRS84>' }],
  ['one page of all features', { paging: 'one page only', largest: 10_000, hasMatched: false }],
] as const satisfies readonly (readonly [string, Partial<Behaviour>])[])
  test(`a server with ${how} is copied completely`, async () => {
    const server = await startFeaturesServer({ ...PAGING, ...behaviour })
    const isOffset = server.behaviour.paging === 'none'
    const { collection, notes, progress } = await copy(`${server.collection}${isOffset ? '?sortby=n' : ''}`)
    const { done, total } = progress.at(-1)!
    if (server.behaviour.hasMatched) assert.deepEqual([done, total], [COUNT, COUNT])
    else assert.equal(total, undefined)
    const rows = await read(collection)
    assert.deepEqual(
      rows.map(({ n, name, geom }) => ({ n, name, geom })),
      features.map(({ properties: { n, name }, geometry }) => ({ n, name, geom: geometry })),
    )
    assert.deepEqual(
      rows.map(({ id }) => id.replace(/^-?\d+\./, '')),
      features.map(({ id }) => id),
    )
    assert.equal(rows[0]!.day.toISOString().slice(0, 10), '2024-02-29')
    assert.deepEqual(notes, [])
    const pages = server.requests.filter((path) => path.includes('/items'))
    assert.match(pages[0]!, /limit=10000/)
  })

test('a page that fails for a while is read again, after growing pauses or those that the server asks for', async () => {
  const times: number[] = []
  const failures: ((response: ServerResponse) => void)[] = [
    (response) => void response.writeHead(503).end('busy'),
    (response) => void response.writeHead(429, { 'retry-after': '0' }).end('{"detail": "Too many requests"}'),
    (response) => void response.destroy(),
    (response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      response.write('{"type": "FeatureCollection", "features": [{"type": "Feature"')
      setTimeout(() => response.destroy(), 20)
    },
    (response) =>
      void response.end('{"type": "FeatureCollection", "features": [{"type": "Feature", "id": 1}, {"ty'),
    (response) =>
      void response.writeHead(200, { 'content-encoding': 'gzip' }).end(Buffer.from('1f8b0800', 'hex')),
  ]
  const server = await startFeaturesServer({
    ...PAGING,
    intercept(_request, response, page) {
      if (page !== 2) return false
      times.push(performance.now())
      const fail = failures.shift()
      fail?.(response)
      return fail !== undefined
    },
  })
  const { collection, notes } = await copy(server.collection, { pausesMs: [50, 5_000, 100, 1, 1, 1] })
  assert.deepEqual(await numbersOf(collection), all)
  const pauses = times.slice(1).map((time, index) => time - times[index]!)
  assert.ok(pauses[0]! >= 45 && pauses[1]! < 4_000 && pauses[2]! >= 95, `${pauses}`)
  assert.equal(notes.length, 6, notes.join('\n'))
  assert.match(notes[0]!, /items\?limit=10000&offset=40 answered with 503: busy\. Repeating it in 0\.1 s …/)
  assert.match(notes[1]!, /429: Too many requests\. Repeating it in 0\.0 s/)
})

test('a server that goes on failing ends the copy, and the same command goes on later', async () => {
  let isBroken = true
  const server = await startFeaturesServer({
    ...PAGING,
    intercept(_request, response, page) {
      if (page === 3 && isBroken) response.writeHead(500).end()
      return page === 3 && isBroken
    },
  })
  const place = join(folder, 'copy_resumed')
  await assert.rejects(
    copy(server.collection, { collection: 'copy_resumed' }),
    (error: Error & { notes?: string[] }) => {
      assert.match(
        error.notes!.at(-1)!,
        new RegExp(`What was read is kept in ${place}; the same command goes on`),
      )
      return failing(/offset=60 answered with 500\.$/)(error)
    },
  )
  await assert.rejects(
    copy(`${server.collection}?other=1`, { collection: 'copy_resumed' }),
    failing(/has what was read from .*\/things\. Name that address to go on, .*--folder, .*--restart\.$/),
  )
  isBroken = false
  const before = server.requests.length
  const { notes } = await copy(server.collection, { collection: 'copy_resumed' })
  assert.deepEqual(notes, ['Going on after the 60 features that were read before.'])
  assert.deepEqual(await numbersOf('copy_resumed'), all)
  assert.deepEqual(
    server.requests.slice(before).map((path) => new URL(path, server.url).searchParams.get('offset')),
    ['60', '80'],
  )
})

test('a copy that is killed goes on where it was, and --restart starts over', async () => {
  let isHeld = true
  const server = await startFeaturesServer({
    ...PAGING,
    intercept: (_request, _response, page) => page === 2 && isHeld,
  })
  const place = join(folder, 'killed')
  const args = ['copy', server.collection, 'copy_killed', '--folder', place]
  const environment = { TESSERA_WRITE_URL: ownerUrl }
  for (const signal of ['SIGKILL', 'SIGINT'] as const) {
    const before = server.requests.filter((path) => path.includes('offset=40')).length
    const tessera = startTessera(args, environment)
    await until(() => server.requests.filter((path) => path.includes('offset=40')).length > before, 60_000)
    tessera.child.kill(signal)
    assert.equal(await tessera.ended, signal === 'SIGINT' ? 130 : null, tessera.output())
    if (signal === 'SIGINT')
      assert.match(tessera.output(), /What was read is kept in .*killed; the same command/)
  }
  const [none] = await session.query<{ found: unknown }>("select to_regclass('copy_killed') as found")
  assert.equal(none!.found, null)
  isHeld = false
  const { code, output } = await runTessera(args, '', environment)
  assert.equal(code, 0, output)
  assert.match(output, /Going on after the 40 features/)
  assert.match(output, /Imported 95 features into copy_killed/)
  assert.deepEqual(await numbersOf('copy_killed'), all)
  assert.equal(server.requests.filter((path) => path.endsWith('items?limit=10000')).length, 1)
  assert.equal(existsSync(place), false)
  isHeld = true
  const again = startTessera([...args, '--append', '--new-ids'], environment)
  await until(() => existsSync(join(place, 'copy.json')), 60_000)
  again.child.kill('SIGKILL')
  await again.ended
  isHeld = false
  const over = await runTessera([...args, '--append', '--new-ids', '--restart'], '', environment)
  assert.equal(over.code, 0, over.output)
  assert.doesNotMatch(over.output, /Going on/)
  assert.equal((await numbersOf('copy_killed')).length, 2 * COUNT)
})

/** Returns a session of the owner whose connection is lost when it sends a statement like this. */
async function losing(pattern: RegExp): Promise<Session> {
  const owner = await openSession(ownerUrl, 'test')
  const query: Session['query'] = async (text, values) => {
    if (pattern.test(text)) throw new Error('connection lost')
    return owner.query(text, values)
  }
  return {
    ...owner,
    query,
    async transaction(work) {
      return owner.transaction(async () => {
        const result = await work()
        if (pattern.test('commit')) throw new Error('connection lost')
        return result
      })
    },
  }
}

test('a copy that ends after its commit stores nothing a second time, and one that ends before it stores all', async () => {
  const server = await startFeaturesServer(PAGING)
  const collection = 'copy_committed'
  await copy(server.collection, { collection })
  const append = { collection, existing: 'append', newIds: true } as const
  await assert.rejects(copy(server.collection, { ...append, as: await losing(/^commit/) }), /connection lost/)
  assert.equal((await numbersOf(collection)).length, COUNT)
  const before = server.requests.length
  // The statement after the commit.
  await assert.rejects(copy(server.collection, { ...append, as: await losing(/^vacuum/) }), /connection lost/)
  assert.equal((await numbersOf(collection)).length, 2 * COUNT)
  const { notes } = await copy(server.collection, append)
  assert.deepEqual(notes, ['Everything was stored before the interruption: 95 features.'])
  assert.equal((await numbersOf(collection)).length, 2 * COUNT)
  assert.equal(server.requests.length, before, 'pages were read again')
})

test('features that come again because the source has changed are stored once', async () => {
  const changing = [...features]
  const server = await startFeaturesServer({
    ...PAGING,
    features: changing,
    intercept(_request, _response, page) {
      // What is inserted at the start pushes others onto the next page.
      if (page === 2 && changing.length === COUNT)
        changing.unshift({ ...features[0]!, id: 'new-1' }, { ...features[0]!, id: 'new-2' })
      return false
    },
  })
  const { collection, notes } = await copy(server.collection)
  assert.deepEqual(await numbersOf(collection), all)
  assert.deepEqual(notes, [
    '2 features came a second time, as they were, and are stored once.',
    'The server counts 97 features, but its pages had 95: it has changed meanwhile, or does not count exactly.',
  ])
})

test('features without ids get new ones, twins included; --new-ids does so with ids that are no good', async () => {
  const bare = features.map(({ id: _, ...feature }) => feature)
  const server = await startFeaturesServer({ ...PAGING, features: [...bare, bare[0]!, bare[0]!] })
  const { collection } = await copy(server.collection)
  assert.deepEqual(await numbersOf(collection), [0, 0, ...all])
  server.behaviour = { ...PAGING, features: features.map((feature, n) => ({ ...feature, id: n % 20 })) }
  await assert.rejects(
    copy(server.collection, { distributeBy: 'id', collection: 'copy_twice' }),
    failing(/same id/),
  )
  await copy(server.collection, { distributeBy: 'id', collection: 'copy_twice', newIds: true })
  assert.deepEqual(await numbersOf('copy_twice'), all)
})

test('types come from the schema, from queryables where they say enough, and else from values', async () => {
  const type = (name: string, format?: string) => ({ type: name, ...(format ? { format } : {}) })
  const odd = features.map((feature, n) => ({
    ...feature,
    properties: {
      n,
      count: n,
      share: n,
      text: '2024-01-01',
      at: '2024-01-01',
      mixed: n === 94 ? 'x' : n,
      list: [n],
    },
  }))
  const schema = {
    properties: {
      n: type('integer'),
      count: type('integer', 'int16'),
      share: type('number'),
      text: type('string'),
      at: { type: ['string', 'null'], format: 'date-time' },
      mixed: type('integer'),
      list: type('array'),
    },
  }
  const server = await startFeaturesServer({ ...PAGING, features: odd, schema })
  const bySchema = await copy(server.collection)
  assert.deepEqual(await typesOf(bySchema.collection), {
    n: 'bigint',
    count: 'smallint',
    share: 'numeric',
    text: 'text',
    at: 'timestamp with time zone',
    mixed: 'text',
    list: 'jsonb',
  })
  assert.deepEqual(bySchema.notes, [
    'The source declares the type bigint for mixed, but has other values, too: the column is text.',
  ])
  server.behaviour = { ...PAGING, features: odd, queryables: schema }
  const byQueryables = await typesOf((await copy(server.collection)).collection)
  assert.deepEqual([byQueryables.n, byQueryables.share, byQueryables.text], ['bigint', 'integer', 'date'])
  const types = new Map([['share', 'real']] as const)
  assert.equal((await typesOf((await copy(server.collection, { types })).collection)).share, 'real')
})

test('credentials are sent to the server that was named, and to no other', async () => {
  const other = await startFeaturesServer(PAGING)
  const server = await startFeaturesServer({ ...PAGING, linksTo: () => other.url })
  const headers = { Authorization: 'Bearer secret', 'X-API-Key': 'secret' }
  await copy(server.collection, { headers })
  assert.ok(
    server.headers.every((sent) => sent.authorization === 'Bearer secret' && sent['x-api-key'] === 'secret'),
  )
  assert.ok(other.headers.length > 0)
  assert.ok(other.headers.every((sent) => !sent.authorization && !sent['x-api-key']))
  const redirecting = await startFeaturesServer({
    ...PAGING,
    intercept(request, response) {
      response.writeHead(307, { location: `${other.url}${request.url}` }).end()
      return true
    },
  })
  const { collection } = await copy(redirecting.collection, { headers })
  assert.deepEqual(await numbersOf(collection), all)
  assert.ok(other.headers.every((sent) => !sent.authorization && !sent['x-api-key']))
  const file = join(folder, 'headers')
  writeFileSync(file, 'X-API-Key: from a file\n\n')
  const args = ['copy', server.collection, 'copy_with_headers', '--folder', join(folder, 'keyed')]
  const environment = { TESSERA_WRITE_URL: ownerUrl }
  const { code, output } = await runTessera([...args, '--headers', file], '', environment)
  assert.equal(code, 0, output)
  assert.equal(server.headers.at(-1)!['x-api-key'], 'from a file')
  writeFileSync(file, 'no header')
  const wrong = await runTessera([...args, '--headers', file], '', environment)
  assert.match(wrong.output, /--headers=.*: line 1 must be a header, for example Authorization: Bearer ….\n/)
})

test('what is wrong with a source is named, with what would be right', async () => {
  const server = await startFeaturesServer(PAGING)
  const { url, collection } = server
  const refuse = (
    pattern: RegExp,
    behaviour: Partial<Behaviour>,
    from = collection,
    options: Options = {},
  ) => {
    server.behaviour = { ...PAGING, ...behaviour }
    return assert.rejects(copy(from, options), failing(pattern))
  }
  await refuse(/must be the address of a collection, such as https:/, {}, url)
  await refuse(/name or password.*Authorization: Basic/, {}, collection.replace('//', '//user:secret@'))
  await refuse(/There is no collection roads at .*; it has things, others\.$/, {}, `${url}/collections/roads`)
  await refuse(/answered with coordinates in <.*25832>; .* crs=http:.*CRS84\.$/, {
    contentCrs: '<http://www.opengis.net/def/crs/EPSG/0/25832>',
  })
  await refuse(/answered with coordinates in <.*4326>/, {
    contentCrs: '<http://www.opengis.net/def/crs/EPSG/0/4326>',
  })
  await refuse(/has the crs EPSG:25832/, {
    frame: { crs: { type: 'name', properties: { name: 'EPSG:25832' } } },
  })
  await refuse(/gives 20 of 95 features: it has no link to the next page/, { paging: 'one page only' })
  const unordered = /no link to the next page, .* order: .*sortby=id, or use --keeps-order/
  await refuse(unordered, { paging: 'none' }, collection, { collection: 'copy_in_order' })
  await copy(`${collection}?sortby=n`, { collection: 'copy_in_order' })
  assert.deepEqual(await numbersOf((await copy(collection, { keepsOrder: true })).collection), all)
  await refuse(/go in a circle/, {
    paging: 'absolute',
    intercept(_request, response, page) {
      const next = `${collection}/items?limit=20&offset=${page === 2 ? 20 : 40}`
      const document = {
        type: 'FeatureCollection',
        features: features.slice(0, 2),
        links: [{ rel: 'next', href: next }],
      }
      if (page > 0) response.end(JSON.stringify(document))
      return page > 0
    },
  })
  await refuse(/answered with text\/html instead of JSON.*\?f=json/, {
    intercept(_request, response) {
      response.writeHead(200, { 'content-type': 'text/html' }).end('<html>')
      return true
    },
  })
  await refuse(/answered with 401: Who are you\?.*--headers/, {
    intercept(_request, response) {
      response.writeHead(401).end('{"detail": "Who are you?"}')
      return true
    },
  })
  await refuse(/Feature 2 of http.* has a geometry that .*--skip-invalid/, {
    features: [features[0]!, { ...features[1]!, geometry: { type: 'Point', coordinates: [1000, 0] } }],
  })
  await refuse(/holds no feature/, { features: [] })
  await refuse(/The collection cities exists/, {}, collection, { collection: 'cities' })
  const start = performance.now()
  await refuse(/cannot be reached \(ECONNREFUSED\)/, {}, 'http://127.0.0.1:2/collections/a', {
    pausesMs: [10_000],
  })
  assert.ok(performance.now() - start < 5_000)
})

test('pages are on the disk as they were sent, in a folder that has nothing else', async () => {
  const collection = 'copy_on_disk'
  const server = await startFeaturesServer({
    ...PAGING,
    intercept(_request, response, page) {
      if (page === 1) response.writeHead(404).end()
      return page === 1
    },
  })
  await assert.rejects(
    copy(server.collection, { collection }),
    failing(/answered with 404\. If the server has forgotten/),
  )
  const place = join(folder, collection)
  const kept = JSON.parse(readFileSync(join(place, 'copy.json'), 'utf8'))
  assert.deepEqual([kept.features, kept.matched], [20, 95])
  assert.deepEqual(
    JSON.parse(readFileSync(join(place, 'pages.geojson'), 'utf8')).features,
    features.slice(0, 20),
  )
  assert.equal(
    statSync(join(place, 'copy.json')).mode & 0o077,
    0,
    'others can read addresses with their keys',
  )
  writeFileSync(join(place, 'pages.geojson'), '{}')
  await assert.rejects(
    copy(server.collection, { collection }),
    failing(/is shorter than it was\. Start over with --restart/),
  )
  writeFileSync(join(place, 'copy.json'), '{')
  await assert.rejects(
    copy(server.collection, { collection }),
    failing(/is not the state of a copy .* --restart\.$/),
  )
  rmSync(join(place, 'copy.json'))
  writeFileSync(join(place, 'mine'), '')
  await assert.rejects(
    copy(server.collection, { collection }),
    failing(/has other files than those of a copy.*--folder/),
  )
  rmSync(place, { recursive: true })
})

test('two copies into one collection do not run at the same time', async () => {
  let hold: () => void = () => {}
  const server = await startFeaturesServer({
    ...PAGING,
    intercept(_request, response, page) {
      if (page !== 1) return false
      hold = () => response.writeHead(503).end()
      return true
    },
  })
  const first = copy(server.collection, { collection: 'copy_at_once' })
  await until(() => server.requests.some((path) => path.includes('offset=20')))
  await assert.rejects(
    copy(server.collection, { collection: 'copy_at_once' }),
    failing(/^Another copy into copy_at_once is running\.$/),
  )
  server.behaviour = PAGING
  hold()
  await first
  assert.deepEqual(await numbersOf('copy_at_once'), all)
})
