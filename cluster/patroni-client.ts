// Owns requests to Patroni over HTTP: the state of a member, and switchovers.

import { ClusterError } from './place.ts'
import { type Member, urlOf } from './topology.ts'

export type MemberState = {
  readonly role: 'primary' | 'replica' | 'standby_leader' | string
  readonly state: string
  readonly timeline: number | undefined
  readonly isStreaming: boolean
  /** True if commits may wait for it; only such a secondary can become primary. */
  readonly isSynchronous: boolean
  /** LSN in bytes that a primary has written, or a secondary has replayed. */
  readonly position: number | undefined
  /** The same, including what a secondary has received and not replayed yet: what it would have as a primary. */
  readonly receivedPosition: number | undefined
  /** Milliseconds since the newest transaction that a secondary has replayed. */
  readonly replayedAgoMs: number | undefined
}

type Answer = {
  readonly role: string
  readonly state: string
  readonly timeline?: number
  readonly replication_state?: string
  readonly sync_standby?: boolean
  readonly quorum_standby?: boolean
  readonly xlog?: {
    readonly location?: number
    readonly received_location?: number
    readonly replayed_location?: number
    readonly replayed_timestamp?: string | null
  }
}

const TIMEOUT_MS = 1_000
/** A switchover takes longest: it waits for a checkpoint and for the candidate's promotion. */
const ORDER_TIMEOUT_MS = 60_000

/** Returns the state of a member; undefined if it does not respond in time. */
export async function askMember(
  { host, patroniPort }: Member,
  timeoutMs = TIMEOUT_MS,
): Promise<MemberState | undefined> {
  try {
    const response = await fetch(`${urlOf(host, patroniPort)}/patroni`, {
      signal: AbortSignal.timeout(timeoutMs),
    })
    const answer = (await response.json()) as Answer
    const { role, state, timeline, replication_state, xlog } = answer
    return {
      role: role === 'master' ? 'primary' : role,
      state,
      timeline,
      isStreaming: replication_state === 'streaming',
      isSynchronous: answer.sync_standby === true || answer.quorum_standby === true,
      position: xlog?.location ?? xlog?.replayed_location,
      receivedPosition:
        xlog && (xlog.location ?? Math.max(xlog.received_location ?? 0, xlog.replayed_location ?? 0)),
      replayedAgoMs: xlog?.replayed_timestamp
        ? Date.now() - Date.parse(xlog.replayed_timestamp.replace(' ', 'T'))
        : undefined,
    }
  } catch {
    return undefined
  }
}

/** Sends a change, which needs the password. @throws ClusterError with Patroni's reason if it refuses */
async function order(
  { name, host, patroniPort }: Member,
  password: string,
  path: string,
  body: unknown,
): Promise<void> {
  const response = await fetch(`${urlOf(host, patroniPort)}${path}`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`patroni:${password}`).toString('base64')}` },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(ORDER_TIMEOUT_MS),
  })
  if (!response.ok) throw new ClusterError(`${name} refuses ${path}: ${await response.text()}`)
}

export const switchOver = (primary: Member, candidate: Member, password: string) =>
  order(primary, password, '/switchover', { leader: primary.name, candidate: candidate.name })
