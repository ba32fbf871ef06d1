// Owns the clients of the nemesis suite: they use HTTP through the proxies, each has one habit, and all record the
// responses that they get.

import { randomUUID } from 'node:crypto'
import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Balancer, urlOf } from '../topology.ts'
import type { Fate, Occurrence } from './history.ts'

export const COLLECTION = 'nemesis'
const ITEMS = `/collections/${COLLECTION}/items`

/** Point, in degrees, around which all features are stored in one node group. */
export type Spot = {
  readonly group: number
  readonly longitude: number
  readonly latitude: number
}

/** A request as its client saw it. */
export type Sample = {
  /** A read that only a primary can serve counts as a write, because no secondary could have served it. */
  readonly kind: 'read' | 'write'
  readonly group: number
  /** Milliseconds of performance.now() at its start. */
  readonly startMs: number
  /** Milliseconds that it took. */
  readonly ms: number
  readonly verdict:
    | 'served'
    /** A 503 that states when to send the request again, or with which key. */
    | 'refused'
    /** No response, or one that does not state what to do. */
    | 'failed'
  /** Source of the response to a request with a token. */
  readonly source: 'secondary' | 'primary' | undefined
  /** What the client got instead of a response, for people. */
  readonly trouble: string | undefined
}

/** Records of all clients, in order. */
export type Notebook = { readonly history: Occurrence[]; readonly samples: Sample[] }

export type Crowd = {
  /** Returns true if each client was served within the last `withinMs`. */
  areServed(withinMs: number): boolean
  stop(): Promise<void>
}

/** Longer than a gateway takes for a change in the worst case, because a client that gives up misses the outcome. */
const TIMEOUT_MS = 15_000
/** Pause between two requests of a client, because the suite tests faults and not an overloaded machine. */
const PAUSE_MS = 75
const RETRY_MS = 100
/** Time after the end of a run in which clients may resolve changes whose outcome is not known yet. */
const RESOLVE_MS = 15_000
/** Distance between a spot's registers and the features that clients create there: next to them, in the same cell. */
const BESIDE_DEGREES = 0.2
/** Number of features of a spot whose values change, each by a client of its own. */
const REGISTERS = 2

type Answer = {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Record<string, unknown> | undefined
}

type Ask = (
  kind: Sample['kind'],
  method: string,
  path: string,
  options?: { readonly headers?: Record<string, string>; readonly body?: unknown },
) => Promise<Answer | undefined>

/**
 * Returns how one client sends requests: to one proxy, and to the next one if none listens there, or if the connection
 * breaks during a request that may be repeated.
 */
function makeAsk(proxies: readonly Balancer[], group: number, { samples }: Notebook, first: number): Ask {
  const agent = new Agent({ keepAlive: true })
  let turn = first
  const askOnce = (method: string, path: string, headers: Record<string, string>, body: unknown) =>
    new Promise<Answer>((resolve, reject) => {
      const proxy = proxies[turn % proxies.length]!
      const url = urlOf(proxy.host, proxy.httpPort) + path
      const signal = AbortSignal.timeout(TIMEOUT_MS)
      const sent = request(url, { agent, method, headers, signal }, (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk) => {
          text += chunk
        })
        response.on('error', reject)
        response.on('end', () =>
          resolve({ status: response.statusCode!, headers: response.headers, body: parse(text) }),
        )
      })
      sent.on('error', reject)
      sent.end(body === undefined ? undefined : JSON.stringify(body))
    })
  return async (kind, method, path, { headers = {}, body } = {}) => {
    const startMs = performance.now()
    let answer: Answer | undefined
    let trouble: string | undefined
    for (let attempt = 0; attempt < proxies.length; attempt++) {
      try {
        answer = await askOnce(method, path, headers, body)
        break
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException
        trouble = code ?? message
        turn++
        // If the request reached no server, or may be repeated, the client tries another address of the same service,
        // as browsers do (RFC 9110, 9.2.2).
        const mayRepeat = method === 'GET' || headers['idempotency-key'] !== undefined
        if (code !== 'ECONNREFUSED' && !(code === 'ECONNRESET' && mayRepeat)) break
      }
    }
    const refusal = answer && answer.status >= 500 ? `${answer.status} ${answer.body?.code ?? ''}` : undefined
    const isHonest = answer?.status === 503 && answer.body !== undefined && isInstructive(answer)
    const source = headers['consistency-token'] ? answer?.headers['tessera-source'] : undefined
    samples.push({
      kind,
      group,
      startMs,
      ms: performance.now() - startMs,
      verdict: answer && !refusal ? 'served' : isHonest ? 'refused' : 'failed',
      source: source as Sample['source'],
      trouble:
        answer && !refusal && trouble ? `${trouble}, and served at the next address` : (refusal ?? trouble),
    })
    return answer
  }
}

/** Returns true if the response states when to send the request again, or with which key. */
const isInstructive = ({ headers, body }: Answer) =>
  headers['retry-after'] !== undefined || body?.idempotencyKey !== undefined

function parse(text: string): Answer['body'] {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Codes of refusals after which the change may have happened. */
const UNTOLD = ['change-outcome-unknown', 'gateway-unavailable']

function fateOf(answer: Answer | undefined): Fate {
  if (!answer) return 'unknown'
  if (answer.status < 300) return 'done'
  const { status, body } = answer
  if (status === 412) return 'refused'
  // The gateway itself responded, and knows the outcome. A proxy does not know what an earlier gateway has done.
  const isTold =
    status === 503 && body !== undefined && !UNTOLD.includes(String(body.code)) && !body.idempotencyKey
  if (isTold) return 'refused'
  // An unexpected failure leaves the outcome open; the failure itself is found in the gateways' logs.
  if (status >= 500 || status === 409) return 'unknown'
  throw new Error(`unexpected: ${status} ${JSON.stringify(body)}`)
}

const GEOJSON = { 'content-type': 'application/geo+json' }
const featureAt = (longitude: number, latitude: number, properties: object) => ({
  type: 'Feature',
  geometry: { type: 'Point', coordinates: [longitude, latitude] },
  properties,
})
const itemPath = (id: string) => `${ITEMS}/${encodeURIComponent(id)}`

/** Creates the features whose values clients change and read. @returns their ids */
export async function makeRegisters(proxies: readonly Balancer[], spot: Spot): Promise<readonly string[]> {
  const ask = makeAsk(proxies, spot.group, { history: [], samples: [] }, 0)
  const make = async () => {
    const body = featureAt(spot.longitude, spot.latitude, { value: 0 })
    const answer = await ask('write', 'POST', ITEMS, { headers: GEOJSON, body })
    if (answer?.status !== 201)
      throw new Error(`no register could be created: ${JSON.stringify(answer?.body)}`)
    return decodeURIComponent(answer.headers.location!.split('/').at(-1)!)
  }
  return Promise.all(Array.from({ length: REGISTERS }, make))
}

type Client = {
  readonly ask: Ask
  readonly spot: Spot
  readonly registers: readonly string[]
  readonly note: (occurrence: Occurrence) => void
  readonly isRunning: () => boolean
  /** Returns true while a client may still resolve an unknown outcome. */
  readonly mayResolve: () => boolean
}
type Habit = (client: Client) => Promise<void>

const insertAt = ({ longitude, latitude }: Spot, mark: string) =>
  featureAt(longitude + BESIDE_DEGREES, latitude, { mark })

/**
 * Creates features, and repeats each until it is created.
 * @param keyOf returns the key of the first try. If there is none, the client repeats the change only with the key that
 * a response without an outcome names
 */
const writeUntilMade =
  (keyOf: () => string | undefined): Habit =>
  async ({ ask, spot, note, isRunning, mayResolve }) => {
    while (isRunning()) {
      const mark = randomUUID()
      let key = keyOf()
      let fate: Fate
      let isInDoubt = false
      do {
        const headers = { ...GEOJSON, ...(key === undefined ? {} : { 'idempotency-key': key }) }
        const answer = await ask('write', 'POST', ITEMS, { headers, body: insertAt(spot, mark) })
        fate = fateOf(answer)
        if (fate === 'unknown') isInDoubt = true
        key ??= answer?.body?.idempotencyKey as string | undefined
        if (fate !== 'done') await sleep(RETRY_MS)
      } while (fate !== 'done' && key !== undefined && mayResolve())
      // If only a later try was refused, the outcome of the first one is still unknown.
      note({ kind: 'insertion', mark, fate: fate === 'refused' && isInDoubt ? 'unknown' : fate })
      await sleep(PAUSE_MS)
    }
  }

/** Changes a register that no other client changes, and reads it at once with the token of the change. */
const changeAndLook =
  (own: number): Habit =>
  async ({ ask, registers, note, isRunning }) => {
    const register = registers[own]!
    const path = itemPath(register)
    let tag: string | undefined
    for (let value = 1; isRunning(); ) {
      // If the value is unknown, a primary is read. A change that takes effect too late then finds another entity tag.
      if (tag === undefined) {
        const answer = await ask('write', 'GET', path, { headers: { prefer: 'consistency=strong' } })
        if (isSeen(answer)) tag = answer.headers.etag
        else await sleep(RETRY_MS)
        continue
      }
      const headers = { 'content-type': 'application/merge-patch+json', 'if-match': tag }
      const changed = await ask('write', 'PATCH', path, { headers, body: { properties: { value } } })
      const fate = fateOf(changed)
      note({ kind: 'setting', register, value, fate })
      tag = fate === 'done' ? changed!.headers.etag : undefined
      if (fate === 'done') {
        const token = String(changed!.headers['consistency-token'])
        const seen = await ask('read', 'GET', path, { headers: { 'consistency-token': token } })
        if (isSeen(seen))
          note({ kind: 'look', register, value: valueIn(seen), atLeast: value, session: undefined })
      } else await sleep(RETRY_MS)
      value++
      await sleep(PAUSE_MS)
    }
  }

/** Reads again and again, and never wants to see less than before. */
const lookForwards: Habit = async ({ ask, registers, note, isRunning }) => {
  const session = randomUUID()
  let token: string | undefined
  for (let turn = 0; isRunning(); turn++) {
    const register = registers[turn % registers.length]!
    const headers = { prefer: 'consistency=monotonic', ...(token ? { 'consistency-token': token } : {}) }
    const seen = await ask('read', 'GET', itemPath(register), { headers })
    if (isSeen(seen)) {
      token = String(seen.headers['consistency-token'])
      note({ kind: 'look', register, value: valueIn(seen), atLeast: 0, session })
    } else await sleep(RETRY_MS)
    await sleep(PAUSE_MS)
  }
}

/** Reads a page of features, as a map does. */
const lookAround: Habit = async ({ ask, spot, registers, note, isRunning }) => {
  const { longitude, latitude } = spot
  const half = BESIDE_DEGREES / 2
  const bbox = [longitude - half, latitude - half, longitude + half, latitude + half].join(',')
  while (isRunning()) {
    const seen = await ask('read', 'GET', `${ITEMS}?bbox=${bbox}&limit=100`)
    if (isSeen(seen)) {
      const features = seen.body!.features as { readonly id: string }[]
      note({ kind: 'scan', expected: registers, seen: features.map(({ id }) => id) })
    } else await sleep(RETRY_MS)
    await sleep(PAUSE_MS)
  }
}

/** Returns true if the read was served. Everything that clients read exists, so any 4xx is an error. */
function isSeen(answer: Answer | undefined): answer is Answer {
  if (answer && answer.status >= 400 && answer.status < 500)
    throw new Error(`unexpected: ${answer.status} ${JSON.stringify(answer.body)}`)
  return answer?.status === 200
}

const valueIn = ({ body }: Answer) => (body!.properties as { readonly value: number }).value

/** Habits; each spot has one client of each. */
const HABITS: readonly Habit[] = [
  writeUntilMade(randomUUID),
  writeUntilMade(() => undefined),
  ...Array.from({ length: REGISTERS }, (_, own) => changeAndLook(own)),
  lookForwards,
  lookAround,
]

/** Starts the clients of each spot, with its registers. */
export function startCrowd(
  proxies: readonly Balancer[],
  spots: ReadonlyMap<Spot, readonly string[]>,
  notebook: Notebook,
): Crowd {
  let stoppedAt: number | undefined
  const servedAt: number[] = []
  const acting = [...spots].flatMap(([spot, registers], place) =>
    HABITS.map((habit, index) => {
      const number = place * HABITS.length + index
      servedAt[number] = performance.now()
      const askOnce = makeAsk(proxies, spot.group, notebook, number)
      return habit({
        async ask(...args) {
          const answer = await askOnce(...args)
          if (answer && answer.status < 500) servedAt[number] = performance.now()
          return answer
        },
        spot,
        registers,
        note: (occurrence) => notebook.history.push(occurrence),
        isRunning: () => stoppedAt === undefined,
        mayResolve: () => stoppedAt === undefined || performance.now() - stoppedAt < RESOLVE_MS,
      })
    }),
  )
  // An error of a client is thrown when the clients are stopped.
  const ended = Promise.all(acting)
  ended.catch(() => {})
  return {
    areServed: (withinMs) => servedAt.every((at) => performance.now() - at < withinMs),
    async stop() {
      stoppedAt = performance.now()
      await ended
    },
  }
}
