// Owns `npm run scenarios`: plays what is asked for, again and again, and writes what was measured.

import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Measurement, play } from './play.ts'
import { type Scenario, scenarios } from './scenarios.ts'
import { openStage } from './stage.ts'

const USAGE = `npm run scenarios -- [NAME …] [--repeats 1] [--plain]

All of them, with the results kept in cluster/results/; or those whose names begin with a NAME:
  ${scenarios.map(({ name }) => name).join('\n  ')}
`

const say = (line: string) => process.stdout.write(`${line}\n`)
const seconds = (ms: number) => (ms / 1000).toFixed(1)

function choose(names: readonly string[]): readonly Scenario[] {
  const unknown = names.find((name) => !scenarios.some((scenario) => scenario.name.startsWith(name)))
  if (unknown) throw new Error(`There is no scenario ${unknown}.`)
  if (names.length === 0) return scenarios
  return scenarios.filter((scenario) => names.some((name) => scenario.name.startsWith(name)))
}

/** Least, median and most of a figure over the repeats, in seconds. */
function spread(measurements: readonly Measurement[], figure: (one: Measurement) => number | undefined) {
  const values = measurements
    .map(figure)
    .filter((value) => value !== undefined)
    .toSorted((a, b) => a - b)
  if (values.length === 0) return '–'
  const median = seconds(values[values.length >> 1]!)
  return values.length === 1 ? median : `${median} (${seconds(values[0]!)} .. ${seconds(values.at(-1)!)})`
}

function renderTable(played: readonly Scenario[], measurements: readonly Measurement[]) {
  const rows = played.map((scenario) => {
    const own = measurements.filter((one) => one.scenario === scenario.name)
    return [
      scenario.name,
      String(own.length),
      scenario.writesWithin === undefined ? '–' : `≤ ${scenario.writesWithin / 1000}`,
      spread(own, ({ writesMs }) => writesMs),
      spread(own, ({ otherWritesMs }) => otherWritesMs),
      spread(own, ({ readsMs }) => readsMs),
      spread(own, ({ otherReadsMs }) => otherReadsMs),
      spread(own, ({ healedMs }) => healedMs),
      String(own.reduce((sum, { acknowledged }) => sum + acknowledged, 0)),
    ]
  })
  const head = [
    'scenario',
    'runs',
    'promised',
    'writes paused',
    'of other groups',
    'reads paused',
    'of other groups',
    'whole again',
    'acknowledged',
  ]
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n')
}

/** What was asked for; ends the process where that cannot be. */
function readWords() {
  try {
    const { values, positionals } = parseArgs({
      options: { repeats: { type: 'string', default: '1' }, plain: { type: 'boolean', default: false } },
      allowPositionals: true,
    })
    const repeats = Number(values.repeats)
    if (!(Number.isInteger(repeats) && repeats >= 1))
      throw new Error('--repeats takes a whole number, as in --repeats 3.')
    const chosen = choose(positionals).filter(({ group }) => !values.plain || group !== 'worker')
    return { chosen, repeats, isPlain: values.plain, areAll: positionals.length === 0 }
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`)
    process.exit(2)
  }
}

const { chosen, repeats, isPlain, areAll } = readWords()
const stage = await openStage(isPlain ? { workers: 0 } : {}, say)
const measurements: Measurement[] = []
try {
  for (let repeat = 0; repeat < repeats; repeat++) {
    for (const scenario of chosen) {
      const one = await play(stage, scenario)
      measurements.push(one)
      say(
        `${scenario.name}: writes ${seconds(one.writesMs)} s, reads ${seconds(one.readsMs)} s; ${one.acknowledged} acknowledged, ${one.refused} refused; whole after ${seconds(one.healedMs)} s`,
      )
      for (const sentence of one.broken) say(`  BROKEN: ${sentence}`)
    }
  }
} finally {
  await stage.close()
}
const broken = measurements.filter((one) => one.broken.length > 0)
const machine = `${cpus().length} cores (${cpus()[0]!.model}), ${Math.round(totalmem() / 2 ** 30)} GiB, all processes on it`
const lines = [
  `# Scenarios, ${new Date().toISOString().slice(0, 10)}`,
  '',
  `Measured on ${machine}; ${isPlain ? 'one pair without Citus' : 'a coordinator pair and three worker pairs'}. Seconds: median (least .. most).`,
  '',
  renderTable(chosen, measurements),
  '',
  broken.length === 0
    ? 'Every promise was kept; no acknowledged row was lost.'
    : broken.flatMap(({ scenario, broken }) => broken.map((text) => `- ${scenario}: ${text}`)).join('\n'),
  '',
]
say(lines.join('\n'))
// A few of them are a trial: the table that is kept is that of all.
if (areAll) {
  const folder = join(import.meta.dirname, '../results')
  mkdirSync(folder, { recursive: true })
  const file = join(folder, isPlain ? 'plain.md' : 'citus.md')
  writeFileSync(file, lines.join('\n'))
  writeFileSync(file.replace(/md$/, 'json'), `${JSON.stringify(measurements, null, 2)}\n`)
}
process.exit(broken.length === 0 ? 0 : 1)
