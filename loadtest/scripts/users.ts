// Owns what all load tests share: the number of users over time, what a user can do, and how responses are counted.

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
/** Data that the users of a run have from the start. */
export type World = { readonly cities: readonly City[]; readonly mark: string }

type Answer = RefinedResponse<ResponseType | undefined>
type Kind = 'read' | 'write'

/** Number of requests of each kind. */
const asked = { read: new Counter('reads'), write: new Counter('writes') }
/** Number of requests that were not served, by what came back instead. */
const errors = new Counter('errors')
/** Number of failures other than a refusal that tells the client when to retry (503 with Retry-After). */
const unexplained = new Counter('unexplained')
const fromSecondary = new Rate('from_secondary')

let settings: Settings = readSettings(__ENV)
http.setResponseCallback(http.expectedStatuses({ min: 200, max: 399 }))

export type Shape = Defaults & {
  /** Kinds of requests that its users send; both by default. */
  readonly kinds?: readonly Kind[]
  readonly stages?: (settings: Settings) => Stage[]
  readonly thresholds?: Options['thresholds']
}

/**
 * Returns k6's options. By default all users come at the spawn rate and stay for the run time, and less than 0.1 % of
 * the requests may fail.
 */
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
        // A change that waits for a primary must be able to finish.
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
    // Bodies that no script reads would only cost k6 time.
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
  // Without this name k6 would keep separate metrics for the URL of every single feature.
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

/** Reads cities from all over the world, the most popular ones first. Throws if there are none. */
export function findWorld(): World {
  const cities: City[] = []
  const params = paramsOf('setup', { responseType: 'text' })
  for (let west = -180; west < 180; west += TILE_DEGREES) {
    for (let south = -60; south < 80; south += TILE_DEGREES) {
      const bbox = [west, south, west + TILE_DEGREES, south + TILE_DEGREES].join(',')
      const response = http.get(`${items()}?bbox=${bbox}&limit=${CITIES_OF_TILE}`, params)
      if (response.status !== 200)
        throw new Error(
          `${items()} returned ${response.status || response.error}: is TARGET a gateway that serves this collection?`,
        )
      for (const { id, geometry, properties } of (response.json() as unknown as Page).features) {
        const [longitude, latitude] = geometry.coordinates
        cities.push({ id: String(id), longitude, latitude, country: properties.country ?? '' })
      }
    }
  }
  if (cities.length === 0) throw new Error(`${settings.collection} has no features to read.`)
  // Shuffles the ranks, so that the popular cities are not neighbours; in the same order in every run.
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

/** Draws a city, popular ones more often. */
export function chooseCity({ cities }: World): City {
  zipf ??= makeZipf(cities.length)
  return cities[zipf(Math.random())]!
}

/** Widths of the map's view, from a city's streets to its country. */
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

/** Follows the next links of a filtered list. @returns the number of pages requested */
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
 * Plays one step of a map session: mostly a move of the view, sometimes a feature, rarely a filter or its pages.
 * @returns the number of requests sent
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

/** A feature that this user created, its last value, and the token of its last change. */
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

/** @returns undefined if the request was not served */
export function create(city: City, { mark }: World, params: Params = {}): Own | undefined {
  const response = change('POST', items(), ownFeature(city, mark), ownParams('application/geo+json', params))
  if (response.status !== 201) return undefined
  const [id] = (response.headers.Location ?? '').split('/').slice(-1)
  return { id: decodeURIComponent(id!), token: tokenOf(response), value: 'new' }
}

/** @returns undefined if the request was not served */
export function update({ id }: Own, params: Params = {}): Own | undefined {
  const value = String(Math.random())
  const body = { properties: { admin1: value } }
  const response = change('PATCH', itemAt(id), body, ownParams('application/merge-patch+json', params))
  return response.status === 200 ? { id, token: tokenOf(response), value } : undefined
}

export const remove = ({ id }: Own, params: Params = {}) => change('DELETE', itemAt(id), null, params)

/**
 * Reads what `update` has written, with the token of the change.
 * @returns an empty text if the feature is not there; undefined if the request was not served
 */
export function lookAtOwn({ id, token }: Own): string | undefined {
  const headers: Record<string, string> = token ? { 'Consistency-Token': token } : {}
  const response = get(itemAt(id), { responseType: 'text', headers })
  if (response.status === 404) return ''
  return response.status === 200 ? String(response.json('properties.admin1')) : undefined
}

/** Returns a function that creates a feature, changes it and removes it, with one request per call. */
export function makeWriter(): (world: World) => void {
  let own: Own | undefined
  let isChanged = false
  return (world) => {
    if (!own) {
      own = create(chooseCity(world), world)
      isChanged = false
    } else if (!isChanged) isChanged = update(own) !== undefined
    else {
      // Not retried: if only the response was lost, the feature is gone; otherwise cleanUp removes it.
      remove(own)
      own = undefined
    }
  }
}

/** Returns a function that reads or writes, whichever is behind its proportion. */
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

/** Cities of each node group of Citus, the popular ones first; all cities under one name if there is no Citus. */
export type Places = Readonly<Record<string, readonly City[]>>

/** Finds the node groups of the cities with `explain=1`, which a gateway answers only to its own machine. */
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

/** Seconds between two attempts, which may fall into a failover of some seconds. */
const CLEANUP_PAUSE_S = 0.5

/** Removes what the run has written, including what interrupted users left. */
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
    // Empty twice in a row: a request in flight when its user was stopped may still create a feature.
    if (isEmpty && wasEmpty) return
    if (isEmpty) sleep(CLEANUP_PAUSE_S)
    for (const { id } of features) http.del(itemAt(String(id)), null, paramsOf('cleanup', {}))
  }
  throw new Error(`Could not remove all features named ${mark}.`)
}
