// Owns fencing: a primary that falls silent loses its leader key at once, and not only when its lease expires.
//
// `node cluster/fencer.ts FILE` runs next to each member of etcd and probes the Patroni of each group's primary. If a
// primary does not respond for SILENCE_MS, the fencer votes. When a majority of the fencers has voted, one etcd
// transaction deletes the leader key, on the condition that the key and the votes still have the same revisions. A
// fencer can do nothing else: Patroni decides by its own rules, and with its own synchronous standbys, which member
// follows, if any. docs/decisions/0002 explains why a fenced primary that lives on acknowledges nothing.

import { readFileSync } from 'node:fs'
import { get } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  encode,
  type KeyValue,
  openStore,
  STORE_TIMEOUT_MS,
  type Store,
  type StoreAccess,
} from './etcd-client.ts'
import { lookUp } from './look-up.ts'
import { readSuccession } from './succession.ts'
import { lifeKeyOf } from './topology.ts'

export type FencerConfiguration = {
  readonly name: string
  readonly store: StoreAccess
  /** Number of fencers that must agree. */
  readonly majority: number
  readonly groups: readonly {
    /** Folder in etcd of Patroni's keys of the group, without a slash at its end. */
    readonly folder: string
    /** Base URL of each member's Patroni, by the member's name. */
    readonly members: Readonly<Record<string, string>>
  }[]
}

const PROBE_INTERVAL_MS = 500
const PROBE_TIMEOUT_MS = 1_000
/** Milliseconds of failed probes, from the first one on. A garbage collection or a busy machine takes less. */
const SILENCE_MS = 2_500
/** Longer than a round of probes, and short enough that an old vote does not count. */
const VOTE_TTL_S = 5
const LIFE_TTL_S = 9
/** Longest time of a round while this process runs, including two members of etcd that do not respond. */
const MAX_ROUND_MS = PROBE_INTERVAL_MS + 2 * STORE_TIMEOUT_MS + PROBE_TIMEOUT_MS

/** Returns true on any response: if it reports a failure, Patroni itself acts on that. */
const isAlive = (url: string) =>
  new Promise<boolean>((resolve) => {
    const probe = get(
      `${url}/liveness`,
      { lookup: lookUp, signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) },
      (answer) => {
        answer.resume()
        resolve(true)
      },
    )
    probe.on('error', () => resolve(false))
  })

/** Folders of the groups whose primary did not respond to its last probe. */
const silentGroups = new Set<string>()

/**
 * Returns true if at least half of all members respond. If fewer respond, this fencer itself is cut off, or the machine
 * stands still, which proves nothing about one primary. Silence counts only while at least half of the members respond.
 */
async function hearsMost(groups: FencerConfiguration['groups']): Promise<boolean> {
  const urls = groups.flatMap(({ members }) => Object.values(members))
  const answers = await Promise.all(urls.map(isAlive))
  return answers.filter(Boolean).length * 2 >= urls.length
}

/** Renews a key in etcd forever, so that status can report a fencer that does not run: nothing else would notice. */
async function showLife(store: Store, name: string): Promise<never> {
  for (;;) {
    await store.putForSeconds(lifeKeyOf(name), LIFE_TTL_S).catch(() => {})
    await sleep((LIFE_TTL_S * 1_000) / 3)
  }
}

/** Watches one group forever. */
async function watch(
  store: Store,
  { name, majority, groups }: FencerConfiguration,
  { folder, members }: FencerConfiguration['groups'][number],
): Promise<never> {
  let reign: string | undefined
  let silentSince: number | undefined
  let ballot: string | undefined
  let isStoreLost = false
  for (;;) {
    const begunAt = performance.now()
    await sleep(PROBE_INTERVAL_MS)
    try {
      const { leader, complete, isPaused } = readSuccession(await store.readKeys(`${folder}/`), folder)
      isStoreLost = false
      if (leader?.revision !== reign) silentSince = undefined
      reign = leader?.revision
      const url = leader && members[leader.name]
      // While an operator has paused Patroni, it promotes no member.
      const isWatched = leader !== undefined && !isPaused && url !== undefined
      const areOthersSilent = [...silentGroups].some((one) => one !== folder)
      const [answers, isTrusted] = await Promise.all([
        isWatched && isAlive(url),
        !areOthersSilent || hearsMost(groups),
      ])
      const isSilent = isWatched && !answers
      if (isSilent) silentGroups.add(folder)
      else silentGroups.delete(folder)
      // If the round took too long, this process stood still and has not observed any silence.
      if (!isSilent || !isTrusted || performance.now() - begunAt > MAX_ROUND_MS) {
        silentSince = undefined
        if (ballot) await withdraw(store, ballot, name)
        ballot = undefined
        continue
      }
      silentSince ??= performance.now()
      if (performance.now() - silentSince < SILENCE_MS) continue
      // If no successor is alive, deleting the key would gain nothing.
      const heirs = complete.filter((heir) => heir !== leader.name).flatMap((heir) => members[heir] ?? [])
      const areAlive = await Promise.all(heirs.map(isAlive))
      if (!areAlive.includes(true)) continue
      ballot = `/tessera-fence${folder}/${leader.revision}/`
      const votes = await vote(store, ballot, name)
      if (votes.length >= majority && (await fence(store, folder, leader.revision, votes)))
        log(`${leader.name} was silent: it is no longer primary (${votes.length} votes)`)
    } catch (error) {
      // Without etcd no primary can be fenced, and Patroni's failsafe mode decides.
      if (!isStoreLost) log(`etcd does not respond: ${(error as Error).message}`)
      isStoreLost = true
      silentSince = undefined
    }
  }
}

/** Casts this fencer's vote. @returns all current votes, including this one */
async function vote(store: Store, ballot: string, name: string): Promise<readonly KeyValue[]> {
  await store.putForSeconds(ballot + name, VOTE_TTL_S)
  return [...(await store.readKeys(ballot)).values()]
}

/** Withdraws this fencer's vote, because the silence is not certain any more. */
const withdraw = (store: Store, ballot: string, name: string) =>
  store.ask('kv/deleterange', { key: encode(ballot + name) })

/** Deletes the leader key if it and the votes are unchanged. @returns true if this fencer deleted it */
async function fence(
  store: Store,
  folder: string,
  revision: string,
  votes: readonly KeyValue[],
): Promise<boolean> {
  const key = encode(`${folder}/leader`)
  const { succeeded = false } = await store.ask<{ succeeded?: boolean }>('kv/txn', {
    compare: [{ key, mod_revision: revision }, ...votes].map(({ key, mod_revision }) => ({
      key,
      mod_revision,
      target: 'MOD',
    })),
    success: [{ request_delete_range: { key } }],
  })
  return succeeded
}

const log = (text: string) => process.stdout.write(`${new Date().toISOString()} ${text}\n`)

const configuration = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as FencerConfiguration
log(`${configuration.name} watches ${configuration.groups.length} groups`)
const store = openStore(configuration.store)
await Promise.all([
  showLife(store, configuration.name),
  ...configuration.groups.map((group) => watch(store, configuration, group)),
])
