// Owns fencing: a primary that has fallen silent loses its leader key at once, and not when its lease runs out.
//
// `node cluster/fencer.ts FILE` runs beside each member of the store. It asks each group's primary for a sign
// of life; one that gives none for SILENCE_MS gets this fencer's vote. When a majority of the fencers has voted,
// one transaction of etcd deletes the key that made it primary, if it is still the very same key, with the very
// same votes. That is all it can do: who follows, and whether anybody may, Patroni decides, by its own rules and
// with its own synchronous standbys. docs/decisions/0002 says why a primary that lives on acknowledges nothing.

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
  /** How many fencers must agree. */
  readonly majority: number
  readonly groups: readonly {
    /** Where Patroni keeps the group's keys, without a slash at its end. */
    readonly folder: string
    /** By name: the base URL of its Patroni. */
    readonly members: Readonly<Record<string, string>>
  }[]
}

const PROBE_INTERVAL_MS = 500
const PROBE_TIMEOUT_MS = 1_000
/** Silent at each probe, from the first that failed on. A garbage collector or a busy machine is back before. */
const SILENCE_MS = 2_500
/** Longer than a round of probes, and short enough that a vote says something of now. */
const VOTE_TTL_S = 5
const LIFE_TTL_S = 9
/** Between two looks at a primary, two members of the store that do not answer included. */
const MAX_ROUND_MS = PROBE_INTERVAL_MS + 2 * STORE_TIMEOUT_MS + PROBE_TIMEOUT_MS

/** Any answer is one: that it is not well itself, Patroni knows and acts on. */
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

/** Groups, by their folders, whose primary did not answer when it was last asked. */
const silentGroups = new Set<string>()

/**
 * Whether at least half of all members answer. A fencer to whom most of the cluster is silent at once is cut off
 * itself, or the machine stands still: that says nothing about one primary. Silence counts only while most are heard.
 */
async function hearsMost(groups: FencerConfiguration['groups']): Promise<boolean> {
  const urls = groups.flatMap(({ members }) => Object.values(members))
  const answers = await Promise.all(urls.map(isAlive))
  return answers.filter(Boolean).length * 2 >= urls.length
}

/** So that status can tell which fencers there are: nobody else would miss one. For ever. */
async function showLife(store: Store, name: string): Promise<never> {
  for (;;) {
    await store.putForSeconds(lifeKeyOf(name), LIFE_TTL_S).catch(() => {})
    await sleep((LIFE_TTL_S * 1_000) / 3)
  }
}

/** Watches one group, for ever. */
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
      // While somebody maintains the group, Patroni promotes nobody.
      const isWatched = leader !== undefined && !isPaused && url !== undefined
      const areOthersSilent = [...silentGroups].some((one) => one !== folder)
      const [answers, isTrusted] = await Promise.all([
        isWatched && isAlive(url),
        !areOthersSilent || hearsMost(groups),
      ])
      const isSilent = isWatched && !answers
      if (isSilent) silentGroups.add(folder)
      else silentGroups.delete(folder)
      // One who did not look, because this process stood still, cannot say that there was silence.
      if (!isSilent || !isTrusted || performance.now() - begunAt > MAX_ROUND_MS) {
        silentSince = undefined
        if (ballot) await withdraw(store, ballot, name)
        ballot = undefined
        continue
      }
      silentSince ??= performance.now()
      if (performance.now() - silentSince < SILENCE_MS) continue
      // Nobody there to follow: what is silent may as well keep its key.
      const heirs = complete.filter((heir) => heir !== leader.name).flatMap((heir) => members[heir] ?? [])
      const areAlive = await Promise.all(heirs.map(isAlive))
      if (!areAlive.includes(true)) continue
      ballot = `/tessera-fence${folder}/${leader.revision}/`
      const votes = await vote(store, ballot, name)
      if (votes.length >= majority && (await fence(store, folder, leader.revision, votes)))
        log(`${leader.name} was silent: it is primary no more (${votes.length} votes)`)
    } catch (error) {
      // Without the store nobody can be fenced, and Patroni's failsafe mode decides.
      if (!isStoreLost) log(`the store does not answer: ${(error as Error).message}`)
      isStoreLost = true
      silentSince = undefined
    }
  }
}

/** @returns all votes of now, this one among them */
async function vote(store: Store, ballot: string, name: string): Promise<readonly KeyValue[]> {
  await store.putForSeconds(ballot + name, VOTE_TTL_S)
  return [...(await store.readKeys(ballot)).values()]
}

/** The primary has answered: this fencer's vote counts no more. */
const withdraw = (store: Store, ballot: string, name: string) =>
  store.ask('kv/deleterange', { key: encode(ballot + name) })

/** @returns whether this fencer was the one that did it */
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
