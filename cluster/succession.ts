// Owns who may be a group's primary, as etcd has it: who holds the leader key, and whom /sync names.

import { decode, type KeyValue } from './etcd-client.ts'

export type Succession = {
  /** Who holds the leader key; undefined where nobody does. */
  readonly leader: { readonly name: string; readonly revision: string } | undefined
  /** Who has every acknowledged change: the last leader first, then its synchronous secondaries. */
  readonly complete: readonly string[]
  /** Until when each of the others had every acknowledged change, as far as that is known: dates of ISO 8601. */
  readonly completeUntil: Readonly<Record<string, string>>
  /** Of /sync; `0` where there is none. */
  readonly revision: string
  /** Up to where in its log the last leader said that it was, in bytes. */
  readonly position: number | undefined
  /** Somebody maintains the group: Patroni promotes nobody. */
  readonly isPaused: boolean
}

type Sync = {
  readonly leader?: string | null
  readonly sync_standby?: string | null
  readonly complete_until?: Readonly<Record<string, string>>
}

/** @param folder where Patroni keeps the group's keys, without a slash at its end */
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
