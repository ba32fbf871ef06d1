// Owns what is asked of Patroni over HTTP: what a member is, and what its group looks like.

import type { Member } from './topology.ts'

export type MemberState = {
  readonly role: 'primary' | 'replica' | 'standby_leader' | string
  readonly state: string
  readonly timeline: number | undefined
  readonly isStreaming: boolean
  /** Bytes; of a primary what it has written, of a secondary what it has replayed. */
  readonly position: number | undefined
}

type Answer = {
  readonly role: string
  readonly state: string
  readonly timeline?: number
  readonly replication_state?: string
  readonly xlog?: { readonly location?: number; readonly replayed_location?: number }
}

const TIMEOUT_MS = 1_000

/** @returns undefined where the member does not answer */
export async function askMember(address: string, { patroniPort }: Member): Promise<MemberState | undefined> {
  try {
    const response = await fetch(`http://${address}:${patroniPort}/patroni`, {
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
    const { role, state, timeline, replication_state, xlog } = (await response.json()) as Answer
    return {
      role: role === 'master' ? 'primary' : role,
      state,
      timeline,
      isStreaming: replication_state === 'streaming',
      position: xlog?.location ?? xlog?.replayed_location,
    }
  } catch {
    return undefined
  }
}
