// Owns what all load tests share: how many come and for how long, what a user can do, and what is counted of the answers.

import { sleep } from 'k6'
import http, { type Params, type RefinedResponse, type ResponseType } from 'k6/http'
import { Counter, Rate } from 'k6/metrics'
import type { Options, Stage } from 'k6/options'
import { type Defaults, readSettings, type Settings } from './settings.ts'
import { makeZipf } from './zipf.ts'

export type City = {
  readonly id: string
  readonly longitude: number
  readonly latitude: number
  readonly country: string
}
/** What the users of a run know when they come. */
export type World = { readonly cities: readonly City[]; readonly mark: string }

type Answer = RefinedResponse<ResponseType | undefined>
type Kind = 'read' | 'write'

/** How often each kind was asked for. */
const asked = { read: new Counter('reads'), write: new Counter('writes') }
/** What was not served, by what came instead. */
const errors = new Counter('errors')
/** What came is neither an answer nor a refusal that says when to come again. */
const unexplained = new Counter('unexplained')
const fromSecondary = new Rate('from_secondary')

let settings: Settings = readSettings(__ENV)
http.setResponseCallback(http.expectedStatuses({ min: 200, max: 399 }))

export type Shape = Defaults & {
  /** What its users do; both, by default. */
  readonly kinds?: readonly Kind[]
  readonly stages?: (settings: Settings) => Stage[]
  readonly thresholds?: Options['thresholds']
}

/** All come at the spawn rate and stay for the run time; what is not served is no more than one in a thousand. */
export function optionsOf({
  kinds = ['read', 'write'],
  stages = comeAndStay,
  thresholds = {},
  ...defaults
}: Shape = {}): Options {
  settings = readSettings(__ENV, defaults)
  return {
    scenarios: {
      users: {
        executor: 'ramping-vus',
        stages: stages(settings),
        gracefulRampDown: '5s',
        // A change that waits for a primary is one that has been asked for.
        gracefulStop: kinds.includes('write') ? '20s' : '2s',
      },
    },
    thresholds: {
      ...Object.fromEntries(kinds.map((kind) => [`http_req_failed{kind:${kind}}`, ['rate<0.001']])),
      ...Object.fromEntries(
        kinds.map((kind) => [`http_req_duration{kind:${kind}}`, [`p(95)<${settings.p95}`]]),
      ),
      unexplained: ['count==0'],
      ...thresholds,
    },
    summaryTrendStats: ['avg', 'min', 'med', 'p(90)', 'p(95)', 'p(99)', 'max', 'count'],
    setupTimeout: '2m',
    teardownTimeout: '5m',
    userAgent: 'tessera-loadtest',
    // What nobody looks at would only cost time here.
    discardResponseBodies: true,
  }
}

const comeAndStay = ({ users, spawnRate, runTime }: Settings): Stage[] => [
  { target: users, duration: `${Math.ceil(users / spawnRate)}s` },
  { target: users, duration: `${runTime}s` },
]

const items = () => `${settings.target}/collections/${encodeURIComponent(settings.collection)}/items`
const itemAt = (id: string) => `${items()}/${encodeURIComponent(id)}`

function paramsOf(kind: string, { headers = {}, tags = {}, ...params }: Params): Params {
  const key = settings.apiKey ? { Authorization: `Bearer ${settings.apiKey}` } : {}
  // Addresses of single features would each be a metric of their own.
  return { ...params, headers: { ...key, ...headers }, tags: { name: kind, kind, ...tags } }
}

function note(kind: Kind, response: Answer): Answer {
  asked[kind].add(1)
  const source = response.headers['Tessera-Source']
  if (source) fromSecondary.add(source === 'secondary')
  if (response.status >= 400 || response.error_code > 0) {
    const isRefusal = response.status === 503 && response.headers['Retry-After'] !== undefined
    errors.add(1, { reason: isRefusal ? 'refused (503)' : reasonOf(response) })
    if (!isRefusal) unexplained.add(1)
  }
  return response
}

const reasonOf = ({ status, error, error_code }: Answer) =>
  status > 0 ? `status ${status}` : `no answer: ${error || error_code}`

export const get = (url: string, params: Params = {}) => note('read', http.get(url, paramsOf('read', params)))

const change = (method: string, url: string, body: object | null, params: Params): Answer => {
  const text = body && JSON.stringify(body)
  return note('write', http.request(method, url, text, paramsOf('write', params)))
}

/** Cities of all over the world, the first of them the most popular. Fails where there are none. */
export function findWorld(): World {
  const cities: City[] = []
  const params = paramsOf('setup', { responseType: 'text' })
  for (let west = -180; west < 180; west += TILE_DEGREES) {
    for (let south = -60; south < 80; south += TILE_DEGREES) {
      const bbox = [west, south, west + TILE_DEGREES, south + TILE_DEGREES].join(',')
      const response = http.get(`${items()}?bbox=${bbox}&limit=${CITIES_OF_TILE}`, params)
      if (response.status !== 200)
        throw new Error(
          `${items()} answers ${response.status || response.error}: is TARGET a gateway that serves?`,
        )
      for (const { id, geometry, properties } of (response.json() as unknown as Page).features) {
        const [longitude, latitude] = geometry.coordinates
        cities.push({ id: String(id), longitude, latitude, country: properties.country ?? '' })
      }
    }
  }
  if (cities.length === 0) throw new Error(`${settings.collection} has no features to look at.`)
  // Neighbours are not of neighbouring rank; the same in every run.
  return { cities: cities.toSorted((a, b) => rankOf(a) - rankOf(b)), mark: settings.mark }
}
const TILE_DEGREES = 20
const CITIES_OF_TILE = 10
const rankOf = ({ longitude, latitude }: City) =>
  Math.abs(Math.sin(longitude * 12.9898 + latitude * 78.233) * 43_758.5453) % 1

type Page = {
  readonly features: readonly {
    readonly id: string | number
    readonly geometry: { readonly coordinates: readonly [number, number] }
    readonly properties: Readonly<Record<string, string | null>>
  }[]
  readonly links: readonly { readonly rel: string; readonly href: string }[]
}

let zipf: ((uniform: number) => number) | undefined

/** Somewhere, the popular places more often. */
export function chooseCity({ cities }: World): City {
  zipf ??= makeZipf(cities.length)
  return cities[zipf(Math.random())]!
}

/** Of a map: from a city's streets to its country. */
const VIEW_DEGREES = [0.25, 0.5, 1, 2, 4]

export function lookAtMap({ longitude, latitude }: City, params: Params = {}): Answer {
  const half = VIEW_DEGREES[Math.floor(Math.random() * VIEW_DEGREES.length)]! / 2
  const [west, east] = [Math.max(-180, longitude - half), Math.min(180, longitude + half)]
  const [south, north] = [Math.max(-90, latitude - half), Math.min(90, latitude + half)]
  return get(`${items()}?bbox=${west},${south},${east},${north}&limit=100`, params)
}

export const lookAtCollection = () =>
  get(`${settings.target}/collections/${encodeURIComponent(settings.collection)}`)

export const lookAtFeature = ({ id }: Pick<City, 'id'>, params: Params = {}) => get(itemAt(id), params)

export const filter = ({ country }: City) => get(`${items()}?country=${encodeURIComponent(country)}&limit=20`)

/** From page to page of a filter, by the links that each has. @returns how many were asked for */
function pageOn({ country }: City): number {
  let url: string | undefined = `${items()}?country=${encodeURIComponent(country)}&limit=100`
  let count = 0
  while (url && count < PAGES) {
    const response: Answer = get(url, { responseType: 'text' })
    count++
    if (response.status !== 200) break
    const { links } = response.json() as unknown as Page
    url = links.find(({ rel }) => rel === 'next')?.href
  }
  return count
}
const PAGES = 3

/**
 * One look of a map session: most are moves of the view, some a feature, a few a filter or its pages.
 * @returns how many requests it was
 */
export function lookAround(world: World): number {
  const city = chooseCity(world)
  const dice = Math.random()
  if (dice >= 0.97) return pageOn(city)
  if (dice < 0.6) lookAtMap(city)
  else if (dice < 0.85) lookAtFeature(city)
  else filter(city)
  return 1
}

/** A feature of our own, and the token with which it is seen wherever it is read. */
export type Own = { readonly id: string; readonly token: string; readonly value: string }

const ownFeature = ({ longitude, latitude, country }: City, mark: string) => ({
  type: 'Feature',
  geometry: { type: 'Point', coordinates: [longitude + jitter(), latitude + jitter()] },
  properties: { name: mark, country, admin1: 'new' },
})
const jitter = () => (Math.random() - 0.5) / 50
const ownParams = (type: string, { headers, ...params }: Params): Params => ({
  ...params,
  responseType: 'text',
  headers: { 'Content-Type': type, ...headers },
})
const tokenOf = ({ headers }: Answer) => headers['Consistency-Token'] ?? ''

/** @returns undefined where it was not served */
export function create(city: City, { mark }: World, params: Params = {}): Own | undefined {
  const response = change('POST', items(), ownFeature(city, mark), ownParams('application/geo+json', params))
  if (response.status !== 201) return undefined
  return { id: String(response.json('id')), token: tokenOf(response), value: 'new' }
}

/** @returns undefined where it was not served */
export function update({ id }: Own, params: Params = {}): Own | undefined {
  const value = String(Math.random())
  const body = { properties: { admin1: value } }
  const response = change('PATCH', itemAt(id), body, ownParams('application/merge-patch+json', params))
  return response.status === 200 ? { id, token: tokenOf(response), value } : undefined
}

export const remove = ({ id }: Own, params: Params = {}) => change('DELETE', itemAt(id), null, params)

/**
 * What `update` has written, as it is read with its token.
 * @returns nothing of it where it is not seen; undefined where it was not served
 */
export function lookAtOwn({ id, token }: Own): string | undefined {
  const headers: Record<string, string> = token ? { 'Consistency-Token': token } : {}
  const response = get(itemAt(id), { responseType: 'text', headers })
  if (response.status === 404) return ''
  return response.status === 200 ? String(response.json('properties.admin1')) : undefined
}

/** Makes a feature, changes it and removes it, one request each time that it is called. */
export function makeWriter(): (world: World) => void {
  let own: Own | undefined
  let isChanged = false
  return (world) => {
    if (!own) {
      own = create(chooseCity(world), world)
      isChanged = false
    } else if (!isChanged) isChanged = update(own) !== undefined
    else {
      // What is not removed now is removed in the end: where the answer was lost, it may be gone.
      remove(own)
      own = undefined
    }
  }
}

/** Reads and writes in proportion: each time what is behind. */
export function makeMixedUser(): (world: World) => void {
  const write = makeWriter()
  let [reads, writes] = [0, 0]
  return (world) => {
    const { readRatio, writeRatio } = settings
    if (reads * writeRatio <= writes * readRatio && readRatio > 0) {
      reads += lookAround(world)
    } else {
      write(world)
      writes++
    }
  }
}

/** Cities of each node group of Citus, the popular first; of all, where there is none. */
export type Places = Readonly<Record<string, readonly City[]>>

/** Whose features lie where, as the gateway says; it tells those on its own machine alone. */
export function findPlaces({ cities }: World): Places {
  const places: Record<string, City[]> = {}
  for (const city of cities.slice(0, EXPLAINED_CITIES)) {
    const params = paramsOf('setup', { responseType: 'text' })
    const response = http.get(`${itemAt(city.id)}?explain=1`, params)
    const groups = response.status === 200 ? (response.json('nodeGroups') as number[] | undefined) : undefined
    const place = groups?.length === 1 ? `group ${groups[0]}` : 'everywhere'
    places[place] ??= []
    places[place].push(city)
  }
  return places
}
const EXPLAINED_CITIES = 60

/** Where it is not served: a failover takes seconds. */
const CLEANUP_PAUSE_S = 0.5

/** Removes what the run has written and what was broken off. */
export function cleanUp({ mark }: World) {
  const query = `${items()}?name=${encodeURIComponent(mark)}&limit=1000`
  const headers = { Prefer: 'consistency=strong' }
  let isEmpty = false
  for (let round = 0; round < 100; round++) {
    const response = http.get(query, paramsOf('cleanup', { responseType: 'text', headers }))
    if (response.status !== 200) {
      sleep(CLEANUP_PAUSE_S)
      continue
    }
    const { features } = response.json() as unknown as Page
    const wasEmpty = isEmpty
    isEmpty = features.length === 0
    // Twice in a row: what was on its way when its user was stopped may still be made.
    if (isEmpty && wasEmpty) return
    if (isEmpty) sleep(CLEANUP_PAUSE_S)
    for (const { id } of features) http.del(itemAt(String(id)), null, paramsOf('cleanup', {}))
  }
  throw new Error(`Not all of what is called ${mark} could be removed.`)
}
