// Owns the clients of the nemesis suite: over HTTP, through the proxies, each with one habit, and all remembering what
// they were told.

import { randomUUID } from 'node:crypto'
import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Balancer, urlOf } from '../topology.ts'
import type { Fate, Occurrence } from './history.ts'

export const COLLECTION = 'nemesis'
const ITEMS = `/collections/${COLLECTION}/items`

/** Somewhere whose features lie in one node group. Degrees. */
export type Spot = {
  readonly group: number
  readonly longitude: number
  readonly latitude: number
}

/** A request as its client saw it. */
export type Sample = {
  /** What only a primary can answer is no read that any other could have served. */
  readonly kind: 'read' | 'write'
  readonly group: number
  /** Milliseconds: of performance.now(), and how long it took. */
  readonly startMs: number
  readonly ms: number
  readonly verdict:
    | 'served'
    /** Told honestly that it is not now, and when to come again. */
    | 'refused'
    /** No answer, or one that says nothing of what to do. */
    | 'failed'
  /** Who answered what must not be older than a token. */
  readonly source: 'secondary' | 'primary' | undefined
  /** What came instead of an answer, for people. */
  readonly trouble: string | undefined
}

/** What all clients write to, in order. */
export type Notebook = { readonly history: Occurrence[]; readonly samples: Sample[] }

export type Crowd = {
  /** Whether each client was served within this time. */
  areServed(withinMs: number): boolean
  stop(): Promise<void>
}

/** Longer than a gateway takes over a change in the worst case: who gives up earlier would not hear what came of it. */
const TIMEOUT_MS = 15_000
/** Between two requests of a client: the suite is about faults, not about a machine with nothing left to give. */
const PAUSE_MS = 75
const RETRY_MS = 100
/** After the end of a run, for changes whose outcome is not known yet. */
const RESOLVE_MS = 15_000
/** So far from its registers a spot has the features that are made: beside them, in the same cell. */
const BESIDE_DEGREES = 0.2
/** Features of a spot whose values are changed, each by a client of its own. */
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

/** One client's way: at one proxy, and at the next where nobody listens, or where it breaks over what may be repeated. */
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
        // Nobody has heard it, or it makes no difference: another address of the same service may be tried, as
        // browsers do (RFC 9110, 9.2.2).
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

/** When to come again, or under which key. */
const isInstructive = ({ headers, body }: Answer) =>
  headers['retry-after'] !== undefined || body?.idempotencyKey !== undefined

function parse(text: string): Answer['body'] {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Refusals that do not say that nothing has happened. */
const UNTOLD = ['change-outcome-unknown', 'gateway-unavailable']

function fateOf(answer: Answer | undefined): Fate {
  if (!answer) return 'unknown'
  if (answer.status < 300) return 'done'
  const { status, body } = answer
  if (status === 412) return 'refused'
  // An answer of the gateway's own, which knows; what comes from a proxy may have been lost on the way before.
  const isTold =
    status === 503 && body !== undefined && !UNTOLD.includes(String(body.code)) && !body.idempotencyKey
  if (isTold) return 'refused'
  // What nobody expected says nothing of what has happened; that it came is told by the gateways' logs.
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

/** Makes the features whose values are changed and read. @returns their ids */
export async function makeRegisters(proxies: readonly Balancer[], spot: Spot): Promise<readonly string[]> {
  const ask = makeAsk(proxies, spot.group, { history: [], samples: [] }, 0)
  const make = async () => {
    const body = featureAt(spot.longitude, spot.latitude, { value: 0 })
    const answer = await ask('write', 'POST', ITEMS, { headers: GEOJSON, body })
    if (answer?.status !== 201) throw new Error(`no register could be made: ${JSON.stringify(answer?.body)}`)
    return String(answer.body!.id)
  }
  return Promise.all(Array.from({ length: REGISTERS }, make))
}

type Client = {
  readonly ask: Ask
  readonly spot: Spot
  readonly registers: readonly string[]
  readonly note: (occurrence: Occurrence) => void
  readonly isRunning: () => boolean
  /** Whether what is not known yet may still be asked for. */
  readonly mayResolve: () => boolean
}
type Habit = (client: Client) => Promise<void>

const insertAt = ({ longitude, latitude }: Spot, mark: string) =>
  featureAt(longitude + BESIDE_DEGREES, latitude, { mark })

/**
 * Makes features, each until it is made. @param keyOf the key of its first try; without one it goes on with that
 * which it is given when nobody can tell, and else never tries again
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
      // Refused once more: what came of the first try is as unknown as before.
      note({ kind: 'insertion', mark, fate: fate === 'refused' && isInDoubt ? 'unknown' : fate })
      await sleep(PAUSE_MS)
    }
  }

/** Changes a register that is its alone and looks at once, with the token of the change. */
const changeAndLook =
  (own: number): Habit =>
  async ({ ask, registers, note, isRunning }) => {
    const register = registers[own]!
    const path = itemPath(register)
    let tag: string | undefined
    for (let value = 1; isRunning(); ) {
      // Where nobody knows what it is now, whoever could tell is asked: what comes too late then finds another tag.
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

/** Looks again and again, and never wants to see less than before. */
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

/** Looks at a map. */
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

/** Everything that is looked for is there: not to find it is no answer. */
function isSeen(answer: Answer | undefined): answer is Answer {
  if (answer && answer.status >= 400 && answer.status < 500)
    throw new Error(`unexpected: ${answer.status} ${JSON.stringify(answer.body)}`)
  return answer?.status === 200
}

const valueIn = ({ body }: Answer) => (body!.properties as { readonly value: number }).value

/** At each spot one of each. */
const HABITS: readonly Habit[] = [
  writeUntilMade(randomUUID),
  writeUntilMade(() => undefined),
  ...Array.from({ length: REGISTERS }, (_, own) => changeAndLook(own)),
  lookForwards,
  lookAround,
]

/** Lets clients loose at each spot, among its registers. */
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
  // What goes wrong in one of them is told when they are stopped.
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
