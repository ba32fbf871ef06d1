// Owns one request with many features that loses a node on its way: whether all of them are stored or none, and once if it
// is sent again under its key.

import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { type ClientRequest, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { faults, type Undo } from '../fault.ts'
import { findPrimary } from '../launcher.ts'
import { untilWhole } from '../status.ts'
import { type Balancer, urlOf } from '../topology.ts'
import { findLeftovers } from './aftermath.ts'
import { COLLECTION } from './http-clients.ts'
import type { NemesisStage } from './nemesis.ts'

export type BulkOptions = {
  readonly kind: RequestKind
  readonly features: number
  /** How much of the body is sent when the primary of a worker is killed, from 0 to 1. */
  readonly struckAt: number
  /** Milliseconds from then on; after all of the body, the change is committed meanwhile. */
  readonly delayMs?: number
}

export type BulkResult = {
  /** What the client learned of the body that lost a node: a status and a code, or a failure of its connection. */
  readonly outcome: string
  /** Features that were stored then. */
  readonly stored: number
  /** Milliseconds that the body took when it was sent again. */
  readonly againMs: number
  /** One sentence for each promise that was broken. */
  readonly broken: readonly string[]
}

/** Features of a chunk of the body. */
const CHUNK = 250
/** Longest time that a body may take, and that a client goes on to send it again. */
const TIMEOUT_MS = 600_000
const RETRY_MS = 1_000
/** Longest wait for recovery, which is measured elsewhere: returning members share the machine with the rest. */
const WHOLE_TIMEOUT_MS = 180_000
/** Steps of a sequence whose points are spread evenly (R2, by Martin Roberts). */
const [STEP_X, STEP_Y] = [0.7548776662466927, 0.5698402909980532]

/** Returns features in GeoJSON; the same every time, because the key is that of one body. */
const featuresOf = (mark: string, first: number, count: number): string[] =>
  Array.from({ length: count }, (_, index) => {
    const value = first + index
    const coordinates = [360 * ((value * STEP_X) % 1) - 180, 170 * ((value * STEP_Y) % 1) - 85]
    const geometry = { type: 'Point', coordinates }
    return JSON.stringify({ type: 'Feature', geometry, properties: { mark, value } })
  })

/** A body with lines of GeoJSON, which is stored as it arrives; or a transaction with an action for each chunk. */
type RequestKind = 'body' | 'transaction'
const REQUESTS: Readonly<Record<RequestKind, { path: string; type: string; write: Writer }>> = {
  body: {
    path: `/collections/${COLLECTION}/items`,
    type: 'application/x-ndjson',
    write: (features) => `${features.join('\n')}\n`,
  },
  transaction: {
    path: '/transactions',
    type: 'application/json',
    write(features, isFirst, isLast) {
      const action = `{"action":"insert","collection":"${COLLECTION}","items":[${features.join()}]}`
      return `${isFirst ? '{"transaction":[' : ','}${action}${isLast ? ']}' : ''}`
    },
  },
}
type Writer = (features: readonly string[], isFirst: boolean, isLast: boolean) => string

/** A request that is sent, and sent again. */
type Sending = {
  readonly kind: RequestKind
  readonly key: string
  readonly mark: string
  readonly features: number
}

type Answer = { readonly status: number; readonly code: string }

/** Sends the body once. @param onProgress gets the part that was sent @throws if the connection fails */
async function send(
  { host, httpPort }: Balancer,
  { kind, key, mark, features }: Sending,
  onProgress: (sent: number) => Promise<void> = async () => {},
): Promise<Answer> {
  const { path, type, write } = REQUESTS[kind]
  const sent = request(urlOf(host, httpPort) + path, {
    method: 'POST',
    headers: { 'content-type': type, 'idempotency-key': key, prefer: 'return=minimal' },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  })
  const answered = answerOf(sent)
  answered.catch(() => {})
  let isOver = false
  const end = () => {
    isOver = true
  }
  const over = answered.then(end, end)
  for (let first = 0; first < features && !isOver; first += CHUNK) {
    const some = featuresOf(mark, first, Math.min(CHUNK, features - first))
    const isFree = sent.write(write(some, first === 0, first + CHUNK >= features))
    if (!isFree) await Promise.race([once(sent, 'drain'), over])
    await onProgress(first / features)
  }
  sent.end()
  await onProgress(1)
  return answered
}

async function answerOf(sent: ClientRequest): Promise<Answer> {
  const [response] = await once(sent, 'response')
  let text = ''
  for await (const chunk of response.setEncoding('utf8')) text += chunk
  return { status: response.statusCode, code: codeIn(text) }
}

function codeIn(text: string): string {
  try {
    return String(JSON.parse(text).code ?? '')
  } catch {
    return ''
  }
}

/** Codes after which the change may have happened. */
const UNTOLD = ['change-outcome-unknown', 'gateway-unavailable', 'change-in-progress', '']

/** Sends a request, kills the primary of a worker meanwhile, and sends the request again. */
export async function playBulk(
  stage: NemesisStage,
  { kind, features, struckAt, delayMs = 0 }: BulkOptions,
): Promise<BulkResult> {
  const { cluster, query } = stage
  const { topology } = cluster.place
  const [first, second = first] = topology.proxies as [Balancer, Balancer?]
  const struck = topology.groups[1] ?? topology.groups[0]!
  const sending: Sending = { kind, features, mark: randomUUID(), key: randomUUID() }
  const { mark } = sending
  const broken: string[] = []
  const keepWhole = async () => {
    broken.push(...(await untilWhole(topology, cluster.credentials, WHOLE_TIMEOUT_MS)))
    broken.push(...(await findLeftovers(cluster)))
  }
  const countStored = async () => {
    const [row] = await query(
      `select count(*)::int as stored, count(distinct value)::int as different from ${COLLECTION} where mark = $1`,
      [mark],
    )
    const { stored, different } = row as { stored: number; different: number }
    if (stored !== different) broken.push(`${stored - different} features are there twice`)
    return stored
  }
  let undo: Undo | undefined
  const strike = async (sent: number) => {
    if (undo || sent < struckAt) return
    await sleep(delayMs)
    undo = await faults.kill.inject(cluster, (await findPrimary(struck)).name)
  }
  const answer = await send(first, sending, strike).catch((error: NodeJS.ErrnoException) => error)
  if (!undo) broken.push('the body was over before the node was struck')
  await undo?.()
  await keepWhole()
  const stored = await countStored()
  const outcome =
    answer instanceof Error ? (answer.code ?? answer.message) : `${answer.status} ${answer.code}`
  if (stored !== 0 && stored !== features) broken.push(`${stored} of ${features} features were stored`)
  if (!(answer instanceof Error)) {
    if (answer.status < 300 && stored !== features)
      broken.push(`${outcome}, but ${stored} features were stored`)
    if (answer.status >= 400 && !UNTOLD.includes(answer.code) && stored > 0)
      broken.push(`${outcome}, but ${stored} features were stored`)
  }
  const startedAt = performance.now()
  for (const deadline = startedAt + TIMEOUT_MS; ; await sleep(RETRY_MS)) {
    const again = await send(second, sending).catch((error: NodeJS.ErrnoException) => error)
    if (!(again instanceof Error) && again.status < 300) break
    if (performance.now() < deadline) continue
    broken.push(`sent again, the body is not stored: ${again instanceof Error ? again.message : again.code}`)
    break
  }
  const againMs = performance.now() - startedAt
  if ((await countStored()) !== features) broken.push(`sent again, ${await countStored()} features are there`)
  await query(`delete from ${COLLECTION} where mark = $1`, [mark])
  return { outcome, stored, againMs, broken }
}
