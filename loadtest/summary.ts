// Owns the results of a load test: the numbers of one run, and two runs next to each other.

import { cpus, totalmem } from 'node:os'
import type { Happening, Observation } from './observe.ts'
import { type Snapshot, tagValues } from './record.ts'
import type { Settings } from './scripts/settings.ts'

/** Number of requests, and percentiles of their duration in milliseconds. */
export type Latency = {
  readonly count: number
  readonly p50: number
  readonly p95: number
  readonly p99: number
}

export type Threshold = { readonly metric: string; readonly condition: string; readonly isMet: boolean }

export type Summary = {
  readonly name: string
  readonly startedAt: string
  /** Seconds in which users sent requests. */
  readonly seconds: number
  readonly settings: Omit<Settings, 'apiKey'>
  readonly k6: string
  readonly commit: string
  readonly machine: string
  readonly reads: Latency
  readonly writes: Latency
  /** Percentage of reads among all requests. */
  readonly readShare: number
  readonly perSecond: number
  /** Number of requests that were not served, by what came back instead. */
  readonly errors: Readonly<Record<string, number>>
  /** Percentage of secondaries among the responses that report their source; undefined if none does. */
  readonly fromSecondaries: number | undefined
  readonly thresholds: readonly Threshold[]
  /** Number of features that the run wrote and did not remove; undefined if it is not known. */
  readonly left: number | undefined
  /** Cores that each program used, on average while users sent requests; and the cores of this machine. */
  readonly cores: Readonly<Record<string, number>>
  readonly allCores: number
  readonly happenings: readonly Happening[]
}

/** The file that k6 writes with --summary-export. */
export type K6Summary = {
  readonly metrics: Readonly<Record<string, Readonly<Record<string, unknown>>>>
}

const numberOf = (metric: Readonly<Record<string, unknown>> | undefined, key: string) =>
  Number(metric?.[key] ?? 0)

const sumOf = (counts: Readonly<Record<string, number>>) =>
  Object.values(counts).reduce((sum, count) => sum + count, 0)

function latencyOf({ metrics }: K6Summary, kind: string): Latency {
  const metric = metrics[`http_req_duration{kind:${kind}}`]
  const [p50, p95, p99] = ['med', 'p(95)', 'p(99)'].map((key) => numberOf(metric, key))
  return { count: numberOf(metrics[`${kind}s`], 'count'), p50: p50!, p95: p95!, p99: p99! }
}

/** Returns when users sent requests, in milliseconds since 1970. What lies before or after that is not measured. */
export function timeOf(snapshots: readonly Snapshot[]): { readonly from: number; readonly to: number } {
  const isBusy = ({ metrics }: Snapshot) =>
    ['read', 'write'].some((kind) => metrics[`http_reqs{kind:${kind}}`]?.count)
  const busy = snapshots.filter(isBusy)
  // A snapshot covers the second before its time.
  return { from: (busy[0]?.at ?? 0) - 1_000, to: busy.at(-1)?.at ?? 0 }
}

export function summarize(
  k6Summary: K6Summary,
  snapshots: readonly Snapshot[],
  { happenings, usage }: Observation,
  facts: Pick<Summary, 'name' | 'startedAt' | 'settings' | 'k6' | 'commit' | 'left'>,
): Summary {
  const { metrics } = k6Summary
  const { from, to } = timeOf(snapshots)
  const seconds = Math.max(1, (to - from) / 1_000)
  const [reads, writes] = [latencyOf(k6Summary, 'read'), latencyOf(k6Summary, 'write')]
  const all = reads.count + writes.count
  const told = metrics.from_secondary
  const thresholds = Object.entries(metrics).flatMap(([metric, { thresholds = {} }]) =>
    // k6 reports whether a condition has failed.
    Object.entries(thresholds as Record<string, boolean>).map(([condition, hasFailed]) => ({
      metric,
      condition,
      isMet: !hasFailed,
    })),
  )
  const cores: Record<string, number> = {}
  const meanwhile = usage.filter(({ at }) => at >= from && at <= to)
  for (const { cores: used } of meanwhile)
    for (const [program, count] of Object.entries(used))
      cores[program] = (cores[program] ?? 0) + count / meanwhile.length
  // k6's summary has no totals by tag.
  const countOf = (reason: string) =>
    snapshots.reduce((sum, { metrics }) => sum + (metrics[`errors{reason:${reason}}`]?.count ?? 0), 0)
  const reasons = tagValues(snapshots, 'errors', 'reason')
  const errors = Object.fromEntries(reasons.map((reason) => [reason, countOf(reason)]))
  // The last part of a second has no snapshot.
  const late = numberOf(metrics.errors, 'count') - sumOf(errors)
  if (late > 0) errors['at the very end'] = late
  return {
    ...facts,
    seconds,
    machine: `${cpus().length} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    reads,
    writes,
    readShare: all === 0 ? 0 : (100 * reads.count) / all,
    perSecond: all / seconds,
    errors,
    fromSecondaries: told && 100 * numberOf(told, 'value'),
    thresholds,
    cores,
    allCores: cpus().length,
    happenings: happenings.toSorted((one, other) => one.at - other.at),
  }
}

/** Returns a sentence about what limited the run. */
export function limitOf({ cores, allCores }: Pick<Summary, 'cores' | 'allCores'>): string {
  const used = Object.entries(cores).toSorted(([, a], [, b]) => b - a)
  if (used.length === 0) return 'The CPU use of this machine is not known.'
  const sum = sumOf(cores)
  const shares = used
    .filter(([, count]) => count >= 0.01)
    .map(([program, count]) => `${program} ${count.toFixed(2)}`)
    .join(', ')
  const isFull = sum > FULL * allCores
  const [most] = used
  const verdict = isFull
    ? `the machine was fully used, most of it by ${most![0]}`
    : 'the machine had capacity left, so the run was limited by waiting, or by another machine'
  return `${sum.toFixed(2)} of the ${allCores} cores of this machine were in use (${shares}): ${verdict}. k6 shares them with the gateways and databases that run here.`
}
const FULL = 0.9

const timesOf = (kind: string, { count, p50, p95, p99 }: Latency) =>
  Object.entries({ p50, p95, p99 }).map(
    ([name, ms]) => [`${kind} ${name}, ms`, count > 0 ? ms : undefined] as const,
  )

/** Returns the numbers of a run, each with its name. */
export const numbersOf = (
  summary: Summary,
): readonly (readonly [name: string, value: number | undefined])[] => [
  ['requests per second', summary.perSecond],
  ['reads', summary.reads.count],
  ['writes', summary.writes.count],
  ['share of reads, %', summary.readShare],
  ['not served', sumOf(summary.errors)],
  ...timesOf('reads', summary.reads),
  ...timesOf('writes', summary.writes),
  ['answered by secondaries, %', summary.fromSecondaries],
]

/** Returns each number of two runs, and the second as a multiple of the first. */
export function compare(one: Summary, other: Summary): readonly Readonly<Record<string, string | number>>[] {
  const others = new Map(numbersOf(other))
  return numbersOf(one).map(([name, value]) => {
    const second = others.get(name)
    const times = value && second !== undefined ? (second / value).toFixed(2) : '–'
    return { '': name, [labelOf(one)]: show(value), [labelOf(other)]: show(second), times }
  })
}

export const labelOf = ({ name, startedAt }: Summary) => `${startedAt.slice(0, 19).replace('T', ' ')} ${name}`

export const show = (value: number | undefined) =>
  value === undefined
    ? '–'
    : value >= 100 || Number.isInteger(value)
      ? String(Math.round(value))
      : value.toFixed(1)
