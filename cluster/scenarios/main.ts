// Owns `npm run scenarios`: plays what is asked for, again and again, and writes what was measured.

import { parseArgs } from 'node:util'
import { GATEWAYS, type NemesisResult, playNemesis, prepareNemesis } from './nemesis.ts'
import { type Measurement, play } from './play.ts'
import { keepReport, renderNemesis, renderPauses, renderReport, seconds } from './report.ts'
import { gatewayScenarios, type Scenario, scenarios } from './scenarios.ts'
import { openTrial, prepareStage, type Trial } from './stage.ts'

const USAGE = `npm run scenarios -- [nemesis] [NAME …] [--repeats 1] [--seconds 0] [--plain]

How long bare connections pause, or, as nemesis, what clients of the gateways are served and whether anything that
was promised them is broken. All scenarios, with the results kept in cluster/results/; or those whose names begin
with a NAME:
  ${scenarios.map(({ name }) => name).join('\n  ')}
and of the nemesis alone:
  ${gatewayScenarios.map(({ name }) => name).join('\n  ')}
A run of the nemesis goes on for --seconds from its fault on, where it would be over earlier.
`

const say = (line: string) => process.stdout.write(`${line}\n`)

function choose(among: readonly Scenario[], names: readonly string[]): readonly Scenario[] {
  const unknown = names.find((name) => !among.some((scenario) => scenario.name.startsWith(name)))
  if (unknown) throw new Error(`There is no scenario ${unknown}.`)
  if (names.length === 0) return among
  return among.filter((scenario) => names.some((name) => scenario.name.startsWith(name)))
}

type Words = {
  readonly chosen: readonly Scenario[]
  readonly repeats: number
  readonly isPlain: boolean
  /** How long a run of the nemesis goes on from its fault on, at least. */
  readonly seconds: number
  /** Whether the results are those of all scenarios, which are kept. */
  readonly areAll: boolean
}

/** What was asked for; ends the process where that cannot be. */
function readWords(): Words & { readonly isNemesis: boolean } {
  try {
    const { values, positionals } = parseArgs({
      options: {
        repeats: { type: 'string', default: '1' },
        seconds: { type: 'string', default: '0' },
        plain: { type: 'boolean', default: false },
      },
      allowPositionals: true,
    })
    const repeats = Number(values.repeats)
    if (!(Number.isInteger(repeats) && repeats >= 1))
      throw new Error('--repeats takes a whole number, as in --repeats 3.')
    const seconds = Number(values.seconds)
    if (!(Number.isInteger(seconds) && seconds >= 0))
      throw new Error('--seconds takes a whole number, as in --seconds 300.')
    const isNemesis = positionals[0] === 'nemesis'
    const names = isNemesis ? positionals.slice(1) : positionals
    const among = isNemesis ? [...scenarios, ...gatewayScenarios] : scenarios
    const chosen = choose(among, names).filter(({ group }) => !values.plain || group !== 'worker')
    return { chosen, repeats, seconds, isPlain: values.plain, areAll: names.length === 0, isNemesis }
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`)
    process.exit(2)
  }
}

async function playAll<T>({ chosen, repeats }: Words, playOne: (scenario: Scenario) => Promise<T>) {
  const results: T[] = []
  for (let repeat = 0; repeat < repeats; repeat++)
    for (const scenario of chosen) results.push(await playOne(scenario))
  return results
}

/** How long bare connections pause. @returns whether every promise was kept */
async function playPauses(words: Words, trial: Trial): Promise<boolean> {
  const stage = await prepareStage(trial)
  const playOne = async (scenario: Scenario): Promise<Measurement> => {
    const one = await play(stage, scenario)
    say(
      `${scenario.name}: writes ${seconds(one.writesMs)} s, reads ${seconds(one.readsMs)} s; ${one.acknowledged} acknowledged, ${one.refused} refused; whole after ${seconds(one.healedMs)} s`,
    )
    for (const sentence of one.broken) say(`  BROKEN: ${sentence}`)
    return one
  }
  const measurements = await playAll(words, playOne)
  const broken = measurements.flatMap(({ scenario, broken }) => broken.map((text) => `${scenario}: ${text}`))
  const text = renderReport({
    title: 'Scenarios',
    isPlain: words.isPlain,
    table: renderPauses(words.chosen, measurements),
    broken,
    allKept: 'Every promise was kept; no acknowledged row was lost.',
  })
  say(text)
  // A few of them are a trial: the table that is kept is that of all.
  if (words.areAll) keepReport(words.isPlain ? 'plain' : 'citus', text, measurements)
  return broken.length === 0
}

/** What clients of the gateways are served. @returns whether every promise was kept */
async function playAgainstNemesis(words: Words, trial: Trial): Promise<boolean> {
  const stage = await prepareNemesis(trial)
  const brokenOf = ({ scenario, violations, broken }: NemesisResult) => [
    ...broken.map((text) => `${scenario}: ${text}`),
    ...violations.map(({ promise, detail }) => `${scenario}: ${promise}: ${detail}`),
  ]
  const playOne = async (scenario: Scenario): Promise<NemesisResult> => {
    const one = await playNemesis(stage, scenario, words.seconds * 1_000)
    const { reads, writes, otherWrites } = one
    say(
      `${scenario.name}: of ${reads.count} reads ${reads.refused} refused, ${reads.failed} failed, at most ${seconds(reads.longestGapMs)} s without; of ${writes.count} writes ${writes.refused} refused, ${writes.failed} failed; of ${otherWrites?.count ?? 0} of other groups ${otherWrites?.refused ?? 0} and ${otherWrites?.failed ?? 0}; ${one.acknowledged} changes acknowledged, ${one.unresolved} never known; whole after ${seconds(one.healedMs)} s`,
    )
    for (const [trouble, count] of Object.entries({ ...one.troubles, ...one.reasons }))
      say(`  ${count} × ${trouble}`)
    for (const sentence of brokenOf(one)) say(`  BROKEN: ${sentence}`)
    return one
  }
  const results = await playAll(words, playOne)
  const broken = results.flatMap(brokenOf)
  const causal = results.reduce((sum, { steadyCausal }) => sum + steadyCausal, 0)
  const fromSecondaries = results.reduce((sum, one) => sum + one.steadyCausalFromSecondaries, 0)
  const share = ((100 * fromSecondaries) / causal).toFixed(1)
  const text = renderReport({
    title: 'Nemesis',
    isPlain: words.isPlain,
    table: `${renderNemesis(words.chosen, results)}\n\nBefore the faults ${share} % of ${causal} reads with a token were answered by secondaries.`,
    broken,
    allKept:
      'No acknowledged change was lost or made twice, none that was refused had happened, no read was older than the own change or went backwards.',
  })
  say(text)
  if (words.areAll) keepReport(words.isPlain ? 'nemesis-plain' : 'nemesis', text, results)
  return broken.length === 0
}

const { isNemesis, ...words } = readWords()
const gateways = isNemesis ? GATEWAYS : 0
const trial = await openTrial({ gateways, ...(words.isPlain ? { workers: 0 } : {}) }, say)
const playing = isNemesis ? playAgainstNemesis(words, trial) : playPauses(words, trial)
const isKept = await playing.finally(trial.close)
process.exit(isKept ? 0 : 1)
