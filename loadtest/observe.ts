// Owns the observation of a load test: the CPU that this machine's processes use, and the state of the cluster.

import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** An event for the time axis of the report. */
export type Happening = {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly what: string
  readonly isTrouble: boolean
}
/** Cores that each program used, on average since the sample before. */
export type Usage = { readonly at: number; readonly cores: Readonly<Record<string, number>> }

export type Observation = { readonly happenings: Happening[]; readonly usage: Usage[] }
export type Observer = { readonly observation: Observation; stop(): Promise<void> }

const CLUSTER_INTERVAL_MS = 500
const CPU_INTERVAL_MS = 1_000

/** Programs by their command lines; all other processes are summed up as OTHERS. */
const PROGRAMS: readonly (readonly [name: string, pattern: RegExp])[] = [
  ['k6', /(^|\/)k6\0/],
  ['gateway', /gateway\/main\.ts/],
  ['PostgreSQL', /^postgres|(^|\/)postgres\0/],
  ['HAProxy', /haproxy/],
  ['Patroni and etcd', /patroni|etcd/],
]
const OTHERS = 'others'

/** @param apiKey key of an operator; needed if the gateways are on another machine */
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

/** Polls the state of the cluster, and records when each trouble begins and when it is over. */
async function watchCluster(
  target: string,
  apiKey: string | undefined,
  { happenings }: Observation,
  signal: AbortSignal,
) {
  const headers = apiKey ? { authorization: `Bearer ${apiKey}` } : {}
  // Each process of a gateway knows only its own state, and any of them may answer: a trouble is over once no response
  // has reported it for OVER_MS.
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
      happenings.push({ at: last, what: `over: ${trouble}`, isTrouble: false })
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
  // Without /proc, as on macOS, the use of CPU is not reported.
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
      // All ticks of a process that started in between count. Process ids are not reused so soon.
      const used = ticks - (before.get(pid)?.ticks ?? 0)
      cores[program] = (cores[program] ?? 0) + used / ticksPerSecond / seconds
    }
    before = now
    if (seconds > CPU_INTERVAL_MS / 2_000) usage.push({ at: Date.now(), cores })
  }
}

/** Returns the program of each process, and the CPU ticks that it has used since its start. */
function readTicks(): Map<number, { readonly program: string; readonly ticks: number }> {
  const found = new Map<number, { readonly program: string; readonly ticks: number }>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      const commandLine = readFileSync(`/proc/${name}/cmdline`, 'utf8')
      // User and system time are the 12th and 13th field after the name, which is in parentheses and may have any text.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      const ticks = Number(fields[11]) + Number(fields[12])
      const program = PROGRAMS.find(([, pattern]) => pattern.test(commandLine))?.[0] ?? OTHERS
      found.set(Number(name), { program, ticks })
    } catch {
      // The process has just ended.
    }
  }
  return found
}
