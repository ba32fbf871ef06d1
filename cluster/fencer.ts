// Owns fencing: a primary that has fallen silent loses its leader key at once, and not when its lease runs out.
//
// `node cluster/fencer.ts FILE` runs beside each member of the store. It asks each group's primary for a sign
// of life; one that gives none for SILENCE_MS gets this fencer's vote. When a majority of the fencers has voted,
// one transaction of etcd deletes the key that made it primary, if it is still the very same key, with the very
// same votes. That is all it can do: who follows, and whether anybody may, Patroni decides, by its own rules and
// with its own synchronous standbys. ARCHITECTURE.md says why a primary that lives on acknowledges nothing.

import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

export type FencerConfiguration = {
  readonly name: string
  /** Base URLs of etcd's members, the nearest first. */
  readonly store: readonly string[]
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
const STORE_TIMEOUT_MS = 1_000

type KeyValue = { readonly key: string; readonly value: string; readonly mod_revision: string }

const encode = (text: string) => Buffer.from(text).toString('base64')
const decode = (text: string) => Buffer.from(text, 'base64').toString()

/** etcd's JSON gateway: the first member that answers. @see https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/ */
async function askStore<T>(store: readonly string[], path: string, body: unknown): Promise<T> {
  let failure: unknown
  for (const url of store) {
    try {
      const response = await fetch(`${url}/v3/${path}`, {
        method: 'POST',
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(STORE_TIMEOUT_MS),
      })
      if (response.ok) return (await response.json()) as T
      failure = new Error(`${url}/v3/${path} answered ${response.status}`)
    } catch (error) {
      failure = error
    }
  }
  throw failure
}

/** All keys below a prefix, with their revisions. */
async function readKeys(store: readonly string[], prefix: string): Promise<ReadonlyMap<string, KeyValue>> {
  const end = prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)
  const { kvs = [] } = await askStore<{ kvs?: KeyValue[] }>(store, 'kv/range', {
    key: encode(prefix),
    range_end: encode(end),
  })
  return new Map(kvs.map((pair) => [decode(pair.key), pair]))
}

/** Any answer is one: that it is not well itself, Patroni knows and acts on. */
const isAlive = (url: string) =>
  fetch(`${url}/liveness`, { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) }).then(
    () => true,
    () => false,
  )

/** What of Patroni's keys matters here. */
type Leadership = {
  readonly member: string
  /** Of the leader's key: another one is another reign. */
  readonly revision: string
  /** Who may follow: the synchronous standbys. */
  readonly heirs: readonly string[]
}

function leadershipOf(keys: ReadonlyMap<string, KeyValue>, folder: string): Leadership | undefined {
  const text = (name: string) => {
    const pair = keys.get(`${folder}/${name}`)
    return pair && decode(pair.value)
  }
  const leader = keys.get(`${folder}/leader`)
  // Somebody maintains the cluster: Patroni promotes nobody now.
  if (!leader || JSON.parse(text('config') ?? '{}').pause) return undefined
  const member = decode(leader.value)
  const { sync_standby } = JSON.parse(text('sync') ?? '{}') as { sync_standby?: string | null }
  return {
    member,
    revision: leader.mod_revision,
    heirs: (sync_standby ?? '').split(',').filter((name) => name !== '' && name !== member),
  }
}

/** Watches one group, for ever. */
async function watch(
  { name, store, majority }: FencerConfiguration,
  { folder, members }: FencerConfiguration['groups'][number],
): Promise<never> {
  let reign: string | undefined
  let silentSince: number | undefined
  let isStoreLost = false
  for (;;) {
    await sleep(PROBE_INTERVAL_MS)
    try {
      const leadership = leadershipOf(await readKeys(store, `${folder}/`), folder)
      isStoreLost = false
      if (leadership?.revision !== reign) silentSince = undefined
      reign = leadership?.revision
      const url = leadership && members[leadership.member]
      if (!leadership || !url || (await isAlive(url))) {
        silentSince = undefined
        continue
      }
      // After the probe: one that failed because this process itself stood still counts for nothing.
      silentSince ??= performance.now()
      if (performance.now() - silentSince < SILENCE_MS) continue
      // Nobody there to follow: what is silent may as well keep its key.
      const heirs = await Promise.all(leadership.heirs.map((heir) => isAlive(members[heir] ?? '')))
      if (!heirs.includes(true)) continue
      const votes = await vote(store, `/tessera-fence${folder}/${leadership.revision}/`, name)
      if (votes.length >= majority && (await fence(store, folder, leadership, votes)))
        log(`${leadership.member} was silent: it is primary no more (${votes.length} votes)`)
    } catch (error) {
      // Without the store nobody can be fenced, and Patroni's failsafe mode decides.
      if (!isStoreLost) log(`the store does not answer: ${(error as Error).message}`)
      isStoreLost = true
    }
  }
}

/** @returns all votes of now, this one among them */
async function vote(store: readonly string[], ballot: string, name: string): Promise<readonly KeyValue[]> {
  const { ID } = await askStore<{ ID: string }>(store, 'lease/grant', { TTL: VOTE_TTL_S })
  await askStore(store, 'kv/put', { key: encode(ballot + name), value: '', lease: ID })
  return [...(await readKeys(store, ballot)).values()]
}

/** @returns whether this fencer was the one that did it */
async function fence(
  store: readonly string[],
  folder: string,
  { revision }: Leadership,
  votes: readonly KeyValue[],
): Promise<boolean> {
  const key = encode(`${folder}/leader`)
  const { succeeded = false } = await askStore<{ succeeded?: boolean }>(store, 'kv/txn', {
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
await Promise.all(configuration.groups.map((group) => watch(configuration, group)))
