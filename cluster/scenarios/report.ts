// Owns the reports of results: tables for people, and files.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import type { NemesisResult, Tally } from './nemesis.ts'
import type { Measurement } from './play.ts'
import type { Scenario } from './scenarios.ts'

export const seconds = (ms: number) => (ms / 1000).toFixed(1)
const whole = (value: number) => value.toFixed(0)

/** Renders the median of a figure over the repeats, with the least and the most. */
function spread<T>(results: readonly T[], figure: (one: T) => number | undefined, show = seconds) {
  const values = results
    .map(figure)
    .filter((value) => value !== undefined)
    .toSorted((a, b) => a - b)
  if (values.length === 0) return '–'
  const median = show(values[values.length >> 1]!)
  return values.length === 1 ? median : `${median} (${show(values[0]!)} .. ${show(values.at(-1)!)})`
}

/** Renders a table. @param rowOf returns the cells of a scenario's row after its name and the number of its runs */
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
  return tableOf(['scenario', 'runs', ...head], rows)
}

/** Renders rows of cells as a Markdown table. */
export const tableOf = (titles: readonly string[], rows: readonly (readonly string[])[]) =>
  [titles, titles.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n')

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
  /** Worker groups; 0 for one group without Citus. */
  readonly workers: number
  /** Members of each group. */
  readonly members: number
  readonly table: string
  /** One sentence for each promise that was not kept. */
  readonly broken: readonly string[]
  /** Text if every promise was kept. */
  readonly allKept: string
}

export function renderReport({ title, workers, members, table, broken, allKept }: Report): string {
  return [
    `# ${title}, ${new Date().toISOString().slice(0, 10)}`,
    '',
    `Measured on ${describeMachine()}; ${describeCluster(workers, members)}. Seconds, unless a column names another unit: median (least .. most).`,
    '',
    table,
    '',
    broken.length === 0 ? allKept : broken.map((sentence) => `- ${sentence}`).join('\n'),
    '',
  ].join('\n')
}

export const describeMachine = () =>
  `${cpus().length} cores (${cpus()[0]!.model}), ${Math.round(totalmem() / 2 ** 30)} GiB, all processes on it`

const describeCluster = (workers: number, members: number) =>
  workers === 0
    ? `one group of ${members} members without Citus`
    : `a coordinator and ${workers} workers with Citus, ${members} members each`

/** Writes a report and its data into docs/results/. */
export function keepReport(name: string, text: string, results: unknown) {
  mkdirSync(RESULTS, { recursive: true })
  writeFileSync(join(RESULTS, `${name}.md`), text)
  writeFileSync(join(RESULTS, `${name}.json`), `${JSON.stringify(results, null, 2)}\n`)
}

/** Writes a picture into docs/results/. @param name with its extension */
export const keepPicture = (name: string, text: string) => writeFileSync(join(RESULTS, name), text)
const RESULTS = join(import.meta.dirname, '../../docs/results')

export type Drawn = Pick<
  NemesisResult,
  'acknowledged' | 'unresolved' | 'reads' | 'writes' | 'healedMs' | 'broken'
> & { readonly seed: number; readonly strikes: string }

/** Adds the result of a drawn sequence to the earlier ones, and writes the report of all. */
export function addToTally(
  name: string,
  { workers, members }: Pick<Report, 'workers' | 'members'>,
  drawn: Drawn,
) {
  const file = join(RESULTS, `${name}.json`)
  const before = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Drawn[]) : []
  const all = [...before.filter(({ seed }) => seed !== drawn.seed), drawn].toSorted((a, b) => a.seed - b.seed)
  const total = (figure: (one: Drawn) => number) => sum(all, figure).toLocaleString('en')
  const broken = all.flatMap((one) => one.broken)
  const rows = all.map((one) => [
    String(one.seed),
    one.strikes,
    String(one.acknowledged),
    String(one.reads.count),
    String(one.reads.refused + one.reads.failed),
    seconds(one.writes.longestGapMs),
    seconds(one.healedMs),
    String(one.broken.length),
  ])
  const titles = [
    'seed',
    'faults, s',
    'acknowledged',
    'reads',
    'not served',
    'changes paused',
    'whole again',
    'breaches',
  ]
  const table = tableOf(titles, rows)
  const text = renderReport({
    title: `${all.length} random sequences of faults`,
    workers,
    members,
    table: `${all.length} sequences, ${total(({ acknowledged }) => acknowledged)} acknowledged changes, ${total(({ reads }) => reads.count)} reads, ${broken.length} breaches. \`npm run scenarios -- nemesis random --seed N\` plays one again.\n\n${table}`,
    broken,
    allKept: 'Every promise was kept.',
  })
  keepReport(name, text, all)
}
