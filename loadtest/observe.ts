// Owns looking on while a load test runs: what this machine's processes do, and what the gateways say of the cluster.

import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** Something that happened, for the time axis. */
export type Happening = {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly what: string
  readonly isTrouble: boolean
}
/** Cores that each kind of process used, on average since the last look. */
export type Usage = { readonly at: number; readonly cores: Readonly<Record<string, number>> }

export type Observation = { readonly happenings: Happening[]; readonly usage: Usage[] }
export type Observer = { readonly observation: Observation; stop(): Promise<void> }

const CLUSTER_INTERVAL_MS = 500
const CPU_INTERVAL_MS = 1_000

/** Programs by their command lines; what is none of them is others. */
const PROGRAMS: readonly (readonly [name: string, pattern: RegExp])[] = [
  ['k6', /(^|\/)k6\0/],
  ['gateway', /gateway\/main\.ts/],
  ['PostgreSQL', /^postgres|(^|\/)postgres\0/],
  ['HAProxy', /haproxy/],
  ['Patroni and etcd', /patroni|etcd/],
]
const OTHERS = 'others'

/** @param apiKey of an operator, where the gateways are elsewhere */
export function observe(target: string, apiKey: string | undefined): Observer {
  const observation: Observation = { happenings: [], usage: [] }
  const stopping = new AbortController()
  const { signal } = stopping
  const watching = [watchCluster(target, apiKey, observation, signal), watchProcesses(observation, signal)]
  return {
    observation,
    async stop() {
      stopping.abort()
      await Promise.all(watching)
    },
  }
}

type ClusterState = {
  readonly endpoints: readonly { readonly endpoint: string; readonly port: string; readonly isUp: boolean }[]
  readonly groupsWithoutPrimary: readonly number[]
  readonly groupsWithoutSecondary: readonly number[]
}

/** What is told of in one state and not in the one before, and the other way round. */
async function watchCluster(
  target: string,
  apiKey: string | undefined,
  { happenings }: Observation,
  signal: AbortSignal,
) {
  const headers = apiKey ? { authorization: `Bearer ${apiKey}` } : {}
  // Each process of a gateway speaks for itself, and whichever answers does: something is over when nobody has told of
  // it for a while.
  const toldAt = new Map<string, number>()
  while (!signal.aborted) {
    const state = await fetch(`${target}/cluster`, { headers, signal: AbortSignal.timeout(2_000) })
      .then((response) => (response.ok ? (response.json() as Promise<ClusterState>) : undefined))
      .catch(() => undefined)
    const at = Date.now()
    for (const trouble of state ? troublesOf(state) : []) {
      if (!toldAt.has(trouble)) happenings.push({ at, what: trouble, isTrouble: true })
      toldAt.set(trouble, at)
    }
    for (const [trouble, last] of toldAt) {
      if (!state || at - last < OVER_MS) continue
      happenings.push({ at: last, what: `no more: ${trouble}`, isTrouble: false })
      toldAt.delete(trouble)
    }
    await sleep(CLUSTER_INTERVAL_MS, undefined, { signal }).catch(() => {})
  }
}
const OVER_MS = 3_000

const troublesOf = ({ endpoints, groupsWithoutPrimary, groupsWithoutSecondary }: ClusterState) => [
  ...endpoints
    .filter(({ isUp }) => !isUp)
    .map(({ endpoint, port }) => `the breaker of the ${port} address ${endpoint} is open`),
  ...groupsWithoutPrimary.map((group) => `node group ${group} has no primary`),
  ...groupsWithoutSecondary.map((group) => `node group ${group} has no secondary`),
]

async function watchProcesses({ usage }: Observation, signal: AbortSignal) {
  // Where it cannot be seen, it is not told.
  if (!existsSync('/proc/self/stat')) return
  const ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))
  let before = readTicks()
  let seenAt = performance.now()
  while (!signal.aborted) {
    await sleep(CPU_INTERVAL_MS, undefined, { signal }).catch(() => {})
    const now = readTicks()
    const seconds = (performance.now() - seenAt) / 1_000
    seenAt += seconds * 1_000
    const cores: Record<string, number> = {}
    for (const [pid, { program, ticks }] of now) {
      // Whatever began in between has used what it has; process numbers are not given away again so soon.
      const used = ticks - (before.get(pid)?.ticks ?? 0)
      cores[program] = (cores[program] ?? 0) + used / ticksPerSecond / seconds
    }
    before = now
    if (seconds > CPU_INTERVAL_MS / 2_000) usage.push({ at: Date.now(), cores })
  }
}

/** Of each process: what it is, and what it has used since it began. */
function readTicks(): Map<number, { readonly program: string; readonly ticks: number }> {
  const found = new Map<number, { readonly program: string; readonly ticks: number }>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      const commandLine = readFileSync(`/proc/${name}/cmdline`, 'utf8')
      // Behind the name in parentheses, which may have anything in it: user and system time are the 12th and 13th.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      const ticks = Number(fields[11]) + Number(fields[12])
      const program = PROGRAMS.find(([, pattern]) => pattern.test(commandLine))?.[0] ?? OTHERS
      found.set(Number(name), { program, ticks })
    } catch {
      // It has just ended.
    }
  }
  return found
}
