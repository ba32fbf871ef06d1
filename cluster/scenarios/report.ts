// Owns how what was measured is told: tables for people, files of results.

import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import type { NemesisResult, Tally } from './nemesis.ts'
import type { Measurement } from './play.ts'
import type { Scenario } from './scenarios.ts'

export const seconds = (ms: number) => (ms / 1000).toFixed(1)
const whole = (value: number) => value.toFixed(0)

/** Least, median and most of a figure over the repeats. */
function spread<T>(results: readonly T[], figure: (one: T) => number | undefined, show = seconds) {
  const values = results
    .map(figure)
    .filter((value) => value !== undefined)
    .toSorted((a, b) => a - b)
  if (values.length === 0) return '–'
  const median = show(values[values.length >> 1]!)
  return values.length === 1 ? median : `${median} (${show(values[0]!)} .. ${show(values.at(-1)!)})`
}

/** @param rowOf the cells of a scenario's row after its name, of all its runs */
function renderTable<T extends { readonly scenario: string }>(
  head: readonly string[],
  played: readonly Scenario[],
  results: readonly T[],
  rowOf: (own: readonly T[], scenario: Scenario) => readonly string[],
) {
  const rows = played.map((scenario) => {
    const own = results.filter((one) => one.scenario === scenario.name)
    return [scenario.name, String(own.length), ...rowOf(own, scenario)]
  })
  const titles = ['scenario', 'runs', ...head]
  return [titles, titles.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n')
}

const sum = <T>(results: readonly T[], figure: (one: T) => number) =>
  results.reduce((total, one) => total + figure(one), 0)

export const renderPauses = (played: readonly Scenario[], measurements: readonly Measurement[]) =>
  renderTable(
    [
      'promised',
      'writes paused',
      'of other groups',
      'reads paused',
      'of other groups',
      'whole again',
      'acknowledged',
    ],
    played,
    measurements,
    (own, { writesWithin }) => [
      writesWithin === undefined ? '–' : `≤ ${writesWithin / 1000}`,
      spread(own, ({ writesMs }) => writesMs),
      spread(own, ({ otherWritesMs }) => otherWritesMs),
      spread(own, ({ readsMs }) => readsMs),
      spread(own, ({ otherReadsMs }) => otherReadsMs),
      spread(own, ({ healedMs }) => healedMs),
      String(sum(own, ({ acknowledged }) => acknowledged)),
    ],
  )

const percent = (share: number) => `${(share * 100).toFixed(2)} %`
const served = (own: readonly NemesisResult[], of: (one: NemesisResult) => Tally | undefined) => {
  const tallies = own.map(of).filter((one) => one !== undefined)
  const count = sum(tallies, (one) => one.count)
  return count === 0 ? '–' : percent(1 - sum(tallies, (one) => one.refused + one.failed) / count)
}

export const renderNemesis = (played: readonly Scenario[], results: readonly NemesisResult[]) =>
  renderTable(
    [
      'reads served',
      'reads paused',
      'p99, ms, before',
      'and during',
      'writes served',
      'writes paused',
      'writes of other groups served',
      'failed instead of refused',
      'whole again',
      'acknowledged',
      'never known',
      'breaches',
    ],
    played,
    results,
    (own) => [
      served(own, ({ reads }) => reads),
      spread(own, ({ reads }) => reads.longestGapMs),
      spread(own, ({ steadyReads }) => steadyReads.p99Ms, whole),
      spread(own, ({ reads }) => reads.p99Ms, whole),
      served(own, ({ writes }) => writes),
      spread(own, ({ writes }) => writes.longestGapMs),
      served(own, ({ otherWrites }) => otherWrites),
      String(
        sum(
          own,
          ({ reads, writes, otherWrites }) => reads.failed + writes.failed + (otherWrites?.failed ?? 0),
        ),
      ),
      spread(own, ({ healedMs }) => healedMs),
      String(sum(own, ({ acknowledged }) => acknowledged)),
      String(sum(own, ({ unresolved }) => unresolved)),
      String(sum(own, ({ violations }) => violations.length)),
    ],
  )

type Report = {
  readonly title: string
  readonly isPlain: boolean
  readonly table: string
  /** What was not kept, each a sentence. */
  readonly broken: readonly string[]
  /** What to say where everything was. */
  readonly allKept: string
}

export function renderReport({ title, isPlain, table, broken, allKept }: Report): string {
  const machine = `${cpus().length} cores (${cpus()[0]!.model}), ${Math.round(totalmem() / 2 ** 30)} GiB, all processes on it`
  const cluster = isPlain ? 'one pair without Citus' : 'a coordinator pair and three worker pairs'
  return [
    `# ${title}, ${new Date().toISOString().slice(0, 10)}`,
    '',
    `Measured on ${machine}; ${cluster}. Seconds, unless said otherwise: median (least .. most).`,
    '',
    table,
    '',
    broken.length === 0 ? allKept : broken.map((sentence) => `- ${sentence}`).join('\n'),
    '',
  ].join('\n')
}

/** Into cluster/results/. */
export function keepReport(name: string, text: string, results: unknown) {
  const folder = join(import.meta.dirname, '../results')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, `${name}.md`), text)
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(results, null, 2)}\n`)
}
