// Tests that nobody sees a feature that their own session in SQL would not show, whatever the policies and the claims are: random
// policies, random callers, every route that shows features or what follows from them, all at once.

import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openSession } from '../../database/session.ts'
import { importFeatures } from '../../features/import/import.ts'
import { openSource } from '../../features/import/import-source.ts'
import { geojsonSeq } from '../../features/import/sources/geojson-seq.ts'
import { testDatabase } from '../support/database.ts'
import { claimsInPolicy } from '../support/distribute.ts'
import { startGateway } from '../support/gateway.ts'
import { AUDIENCE, startIssuer } from '../support/issuer.ts'
import { makeRandom } from '../support/random.ts'

const issuer = await startIssuer({})
const { client, session, catalog } = await startGateway(
  `--oidc-issuer=${issuer.url}`,
  `--oidc-audience=${AUDIENCE}`,
  '--tile-max-age=60',
)
const random = makeRandom(Number(process.env.SEED ?? 5))
const below = (bound: number) => Math.floor(random() * bound)
const pick = <T>(list: readonly T[]) => list[below(list.length)]!

const TABLES = 3
const ROWS = 60
const CALLERS = 8
/** Requests that are under way at once. */
const AT_ONCE = 8
const REGIONS = ['a', 'b', 'c'] as const
const SUBJECTS = ['anna', 'bert', 'cara'] as const

type Place = { readonly id: string; readonly number: number; readonly x: number; readonly y: number }
type Caller = {
  readonly headers: Record<string, string>
  readonly sees: ReadonlyMap<string, ReadonlySet<number>>
}
const names = Array.from({ length: TABLES }, (_, index) => `row_random_${index}`)
const places = new Map<string, Place[]>()
const callers: Caller[] = []

const claims = await claimsInPolicy(session)
const claim = (text: string) => `(${claims} ${text})`
const PREDICATES = [
  () => 'published',
  () => `region = ${claim(`->> 'region'`)}`,
  () => `owner = ${claim(`->> 'sub'`)}`,
  () => `size <= ${claim(`->> 'size'`)}::int`,
  () => `size % 5 = ${below(5)} and ${claim(`-> 'roles' ? 'r${below(3)}'`)}`,
  // Nobody in particular can see more than somebody.
  () => `size % 4 = ${below(4)} and coalesce(${claim(`->> 'sub'`)}, '') = ''`,
  () => `region = '${pick(REGIONS)}' and ${claim(`->> 'sub'`)} is distinct from '${pick(SUBJECTS)}'`,
]
const policy = () => Array.from({ length: 1 + below(3) }, () => `(${pick(PREDICATES)()})`).join(' or ')

const makeClaims = () => ({
  sub: pick(SUBJECTS),
  ...(random() < 0.7 ? { region: pick(REGIONS) } : {}),
  ...(random() < 0.5 ? { size: below(ROWS) } : {}),
  roles: ['r0', 'r1', 'r2'].filter(() => random() < 0.5),
})

before(async () => {
  for (const [index, name] of names.entries()) {
    const features = Array.from({ length: ROWS }, (_, number) => ({
      type: 'Feature',
      geometry: { type: 'Point', coordinates: [below(3_000) / 10 - 150, below(1_400) / 10 - 70] },
      properties: {
        mark: `mk${index}x${number}x`,
        size: number,
        region: pick(REGIONS),
        owner: pick(SUBJECTS),
        published: random() < 0.3,
      },
    }))
    const text = features.map((feature) => `${JSON.stringify(feature)}\n`).join('')
    const source = await openSource('-', Readable.from([Buffer.from(text)]), { format: geojsonSeq })
    await importFeatures(session, source, { collection: name, existing: undefined }, () => {})
    for (const statement of [
      `alter table ${name} enable row level security`,
      `create policy one on ${name} for select using (${policy()})`,
      ...(random() < 0.5 ? [`create policy other on ${name} for select using (${policy()})`] : []),
      ...(random() < 0.5
        ? [`create policy less on ${name} as restrictive for select using (size % 3 > 0 or ${policy()})`]
        : []),
    ])
      await session.query(statement)
    const stored = await session.query<Place>(
      `select id::text, size as number, ST_X(geom) as x, ST_Y(geom) as y from ${name}`,
    )
    places.set(name, stored)
  }
  for (let index = 0; index < CALLERS; index++) {
    const token = index === 0 ? undefined : await issuer.sign(makeClaims())
    const claims = token && Buffer.from(token.split('.')[1]!, 'base64url').toString()
    callers.push({
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      sees: await seenInSql(claims),
    })
  }
  await catalog.reload()
})

/** Returns what a session of the gateway's own role sees with these claims. */
async function seenInSql(claims: string | undefined) {
  const own = await openSession(testDatabase().readUrl, 'test')
  const seen = new Map<string, ReadonlySet<number>>()
  await own.query(`begin; set local citus.propagate_set_commands = 'local'`)
  if (claims !== undefined)
    await own.query(`set local "request.jwt.claims" = '${claims.replaceAll("'", "''")}'`)
  for (const name of names) {
    const rows = await own.query<{ size: number }>(`select size from ${name}`)
    seen.set(name, new Set(rows.map(({ size }) => size)))
  }
  await own.query('rollback')
  await own.close()
  return seen
}

type Answer = Awaited<ReturnType<typeof client>>
/** A route, and whether an answer with these features is right for a caller who sees some. */
type Route = readonly [
  path: (name: string) => string,
  check: (answer: Answer, sees: ReadonlySet<number>, name: string) => void,
]

const shown = (text: string, name: string) =>
  new Set(
    [...text.matchAll(/mk(\d+)x(\d+)x/g)]
      .filter(([, table]) => name === `row_random_${table}`)
      .map(([, , number]) => Number(number)),
  )
const sorted = (numbers: Iterable<number>) => [...numbers].toSorted((a, b) => a - b)
const all = ({ status, text }: Answer, sees: ReadonlySet<number>, name: string) => {
  assert.ok(status === 200 || (status === 204 && sees.size === 0), `${status} ${text}`)
  assert.deepEqual(sorted(shown(text, name)), sorted(sees))
}
const some = ({ status, text }: Answer, sees: ReadonlySet<number>, name: string) => {
  assert.ok(status < 300 || status === 404, `${status} ${text}`)
  for (const number of shown(text, name)) assert.ok(sees.has(number), String(number))
}
const none = ({ status, text }: Answer, _: unknown, name: string) => {
  assert.equal(status, 200, text)
  assert.equal(shown(text, name).size, 0)
}
const count = ({ json }: Answer, sees: ReadonlySet<number>) => assert.equal(json.numberMatched, sees.size)
const corners = (sees: ReadonlySet<number>, name: string) => {
  const seen = places.get(name)!.filter(({ number }) => sees.has(number))
  const [xs, ys] = [seen.map(({ x }) => x), seen.map(({ y }) => y)]
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)]
}
const extent = ({ json }: Answer, sees: ReadonlySet<number>, name: string) => {
  if (sees.size > 0) assert.deepEqual(json.extent.spatial.bbox, [corners(sees, name)])
  else assert.equal(json.extent.spatial, undefined)
}
const bounds = ({ json }: Answer, sees: ReadonlySet<number>, name: string) => {
  if (sees.size > 0) assert.deepEqual(json.bounds, corners(sees, name))
}
const box = () => {
  const [west, south] = [below(250) - 150, below(100) - 70]
  return [west, south, west + below(200), south + below(100)].join()
}
const WORLD = 'tiles/WebMercatorQuad/0/0/0'
const in_ = (path: string) => (name: string) => `/collections/${name}/${path}`

const ROUTES: readonly Route[] = [
  [in_('items?limit=100'), all],
  [in_('items?limit=100&sortby=-size&properties=mark'), all],
  [in_('items?limit=100&filter=size>=0'), all],
  [in_('items?limit=100&f=html'), all],
  [in_('items?limit=none'), all],
  [in_('items?limit=none&f=csv'), all],
  [in_('items?limit=none&f=fgb'), all],
  [in_('items?limit=none&f=jsonfg'), all],
  [in_(WORLD), all],
  [in_('0/0/0.mvt'), all],
  [in_(`${WORLD}?filter=size>=0`), all],
  [(name) => `/${WORLD}?collections=${name}`, all],
  [() => `/${WORLD}?collections=${names.join()}`, all],
  [in_(`items?limit=${1 + below(9)}&offset=${below(9)}`), some],
  [in_(`items?limit=50&bbox=${box()}`), some],
  [in_(`items?limit=50&filter=size<${below(ROWS)}`), some],
  [in_(`items?owner=${pick(SUBJECTS)}`), some],
  [in_(`tiles/WebMercatorQuad/1/${below(2)}/${below(2)}`), some],
  [in_('summary?property=mark'), some],
  [in_('items?limit=1'), count],
  [in_('items?limit=1&filter=size>=0'), count],
  [(name) => `/collections/${name}`, extent],
  [in_('tilejson.json'), bounds],
  [in_('style.json'), none],
  [in_('queryables'), none],
  [in_('schema'), none],
  [() => '/collections', none],
]

/** Few answers with all features run at once, and on a busy machine other requests are refused for a moment, too. */
async function readPatiently(path: string, headers: Record<string, string>) {
  for (;;) {
    const answer = await client(path, { headers })
    if (answer.status !== 503) return answer
    await sleep(20)
  }
}

test('nobody sees a feature that their own session would not show', async () => {
  const requests = names.flatMap((name) =>
    callers.flatMap((caller) => {
      const sees = caller.sees.get(name)!
      const { id, number } = pick(places.get(name)!)
      const item: Route = [
        in_(`items/${id}`),
        ({ status, text }) => {
          assert.equal(status, sees.has(number) ? 200 : 404, text)
          assert.deepEqual([...shown(text, name)], sees.has(number) ? [number] : [])
        },
      ]
      // Most requests of maps are for the same tiles, and look-ups are joined.
      return [...ROUTES, item, item].map(([path, check]) => ({ name, caller, sees, path: path(name), check }))
    }),
  )
  const order = requests.map((request) => ({ request, at: random() })).sort((a, b) => a.at - b.at)
  const visible = callers.flatMap(({ sees }) => names.map((name) => sees.get(name)!.size))
  assert.ok(new Set(visible).size > 5, `the policies are too simple: ${visible}`)
  let cases = 0
  const next = async () => {
    for (let one = order.pop(); one; one = order.pop()) {
      const { name, caller, sees, path, check } = one.request
      const answer = await readPatiently(path, caller.headers)
      try {
        check(answer, sees, name)
      } catch (error) {
        throw new Error(`${path} of caller ${callers.indexOf(caller)}: ${error}`, { cause: error })
      }
      cases += ROWS
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, next))
  assert.ok(cases >= 10_000, String(cases))
})
