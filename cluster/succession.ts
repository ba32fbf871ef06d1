// Owns which members may be a group's primary, as etcd has it: the holder of the leader key, and those in /sync.

import { decode, type KeyValue } from './etcd-client.ts'

export type Succession = {
  /** Holder of the leader key; undefined if no member holds it. */
  readonly leader: { readonly name: string; readonly revision: string } | undefined
  /** Members that have every acknowledged change: the last leader first, then its synchronous secondaries. */
  readonly complete: readonly string[]
  /** Until when each other member had every acknowledged change, as far as that is known: dates of ISO 8601. */
  readonly completeUntil: Readonly<Record<string, string>>
  /** Revision of /sync; `0` if there is none. */
  readonly revision: string
  /** LSN that the last leader has reported, in bytes. */
  readonly position: number | undefined
  /** True if an operator has paused Patroni, which then promotes no member. */
  readonly isPaused: boolean
}

type Sync = {
  readonly leader?: string | null
  readonly sync_standby?: string | null
  readonly complete_until?: Readonly<Record<string, string>>
}

/** Reads a group's keys. @param folder in etcd of Patroni's keys of the group, without a slash at its end */
export function readSuccession(keys: ReadonlyMap<string, KeyValue>, folder: string): Succession {
  const parse = <T>(name: string): Partial<T> => {
    const pair = keys.get(`${folder}/${name}`)
    return pair ? JSON.parse(decode(pair.value)) : {}
  }
  const leader = keys.get(`${folder}/leader`)
  const sync = parse<Sync>('sync')
  const names = [sync.leader ?? '', ...(sync.sync_standby ?? '').split(',')]
  return {
    leader: leader && { name: decode(leader.value), revision: leader.mod_revision },
    complete: names.filter((name) => name !== ''),
    completeUntil: sync.complete_until ?? {},
    revision: keys.get(`${folder}/sync`)?.mod_revision ?? '0',
    position: parse<{ optime: number }>('status').optime,
    isPaused: parse<{ pause: boolean }>('config').pause === true,
  }
}
