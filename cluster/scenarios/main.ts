// Owns `npm run scenarios`: plays the requested scenarios, as often as requested, and writes the results.

import { parseArgs } from 'node:util'
import { playBulk } from './bulk.ts'
import { GATEWAYS, type NemesisResult, type NemesisStage, playNemesis, prepareNemesis } from './nemesis.ts'
import { type Measurement, play } from './play.ts'
import { addToTally, keepReport, renderNemesis, renderPauses, renderReport, seconds } from './report.ts'
import { gatewayScenarios, type Scenario, scenarios } from './scenarios.ts'
import { describeStrikes, drawStrikes, randomScenario, sequences } from './sequences.ts'
import { DISK_MIB, openTrial, prepareStage, type Trial } from './stage.ts'

/** Features of a transaction: the most that it takes. */
const TRANSACTION_FEATURES = 1_000

const USAGE = `npm run scenarios -- [nemesis | nemesis sequences] [NAME …] [--repeats 1] [--seconds 0]
npm run scenarios -- nemesis random [--seed 1] [--minutes 10]
npm run scenarios -- bulk [--features 1000000] [--repeats 1]
     [--plain | --workers 3] [--members 2]

Without nemesis, it measures how long bare connections pause. With it, it measures what clients of the gateways are
served, and checks whether any promise to them is broken. Without names, it plays all scenarios and keeps the results in
docs/results/. Otherwise it plays those whose names begin with a NAME:
  ${scenarios.map(({ name }) => name).join('\n  ')}
only with nemesis:
  ${gatewayScenarios.map(({ name }) => name).join('\n  ')}
sequences of faults, only with nemesis:
  ${sequences.map(({ name }) => name).join('\n  ')}
A run of the nemesis lasts at least --seconds from its fault on.

random draws sequences of faults: the first one by --seed, each further one by the next number, until --minutes are
over. The same seed draws the same faults. The results are added to docs/results/random.md.

bulk sends bodies with --features, and kills the primary of a worker in the middle of one, and at the end of others; then
it does the same with transactions of ${TRANSACTION_FEATURES} features.
`

const SUITES = ['nemesis', 'sequences', 'random', 'bulk']
type Suite = 'pauses' | 'nemesis' | 'sequences' | 'random' | 'bulk'

const say = (line: string) => process.stdout.write(`${line}\n`)

function choose(among: readonly Scenario[], names: readonly string[]): readonly Scenario[] {
  const isMeant =
    (wanted: string) =>
    ({ name }: Scenario) =>
      among.some((one) => one.name === wanted) ? name === wanted : name.startsWith(wanted)
  const unknown = names.find((name) => !among.some(isMeant(name)))
  if (unknown) throw new Error(`There is no scenario ${unknown}.`)
  return among.filter((scenario) => names.some((name) => isMeant(name)(scenario)))
}

type Words = {
  readonly suite: Suite
  readonly chosen: readonly Scenario[]
  readonly repeats: number
  /** Worker groups of the cluster; 0 for one group without Citus. */
  readonly workers: number
  /** Members of each group. */
  readonly members: number
  /** Seconds that a run of the nemesis lasts at least, from its fault on. */
  readonly seconds: number
  readonly seed: number
  readonly minutes: number
  /** Features of a body. */
  readonly features: number
  /** True if all scenarios are played; only such results are kept. */
  readonly areAll: boolean
}

/** Reads the command line, and ends the process if it is not valid. */
function readWords(): Words {
  try {
    const { values, positionals } = parseArgs({
      options: {
        repeats: { type: 'string', default: '1' },
        seconds: { type: 'string', default: '0' },
        seed: { type: 'string', default: '1' },
        minutes: { type: 'string', default: '10' },
        features: { type: 'string', default: '1000000' },
        workers: { type: 'string', default: '3' },
        members: { type: 'string', default: '2' },
        plain: { type: 'boolean', default: false },
      },
      allowPositionals: true,
    })
    const number = (
      name: 'repeats' | 'seconds' | 'seed' | 'minutes' | 'features' | 'workers' | 'members',
      least: number,
    ) => {
      const value = Number(values[name])
      if (Number.isSafeInteger(value) && value >= least) return value
      throw new Error(`--${name} takes an integer of at least ${least}, as in --${name} ${least + 2}.`)
    }
    const names = [...positionals]
    let suite: Suite = 'pauses'
    while (SUITES.includes(names[0]!)) suite = names.shift() as Suite
    if ((suite === 'random' || suite === 'bulk') && names.length > 0)
      throw new Error(`${suite} takes no names.`)
    if (suite === 'random' && process.getuid?.() !== 0)
      throw new Error('random needs root: it cuts members off, and fills their disks.')
    const ofNemesis = [...scenarios, ...gatewayScenarios]
    const all = { pauses: scenarios, nemesis: ofNemesis, sequences, random: [], bulk: [] }[suite]
    const among = suite === 'nemesis' ? [...ofNemesis, ...sequences] : all
    const chosen = names.length === 0 ? all : choose(among, names)
    return {
      suite,
      chosen: chosen.filter(({ group }) => !values.plain || group !== 'worker'),
      repeats: number('repeats', 1),
      seconds: number('seconds', 0),
      seed: number('seed', 0),
      minutes: number('minutes', 1),
      features: number('features', 1),
      workers: values.plain ? 0 : number('workers', 1),
      members: number('members', 2),
      areAll: names.length === 0,
    }
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

/** Returns the name of a file of results; clusters of another size than the default have their own. */
const fileOf = (name: string, { workers, members }: Words) =>
  [
    name,
    ...(workers === 0 ? ['plain'] : workers === 3 ? [] : [`${workers}-workers`]),
    ...(members === 2 ? [] : [`${members}-members`]),
  ].join('-')

/** Measures how long bare connections pause. @returns true if every promise was kept */
async function playPauses(words: Words, trial: Trial): Promise<boolean> {
  const stage = await prepareStage(trial)
  const playOne = async (scenario: Scenario): Promise<Measurement> => {
    const one = await play(stage, scenario)
    say(
      `${scenario.name}: writes ${seconds(one.writesMs)} s, reads ${seconds(one.readsMs)} s; ${one.acknowledged} acknowledged, ${one.refused} refused; recovered after ${seconds(one.healedMs)} s`,
    )
    for (const sentence of one.broken) say(`  BROKEN: ${sentence}`)
    return one
  }
  const measurements = await playAll(words, playOne)
  const broken = measurements.flatMap(({ scenario, broken }) => broken.map((text) => `${scenario}: ${text}`))
  const text = renderReport({
    title: 'Scenarios',
    ...words,
    table: renderPauses(words.chosen, measurements),
    broken,
    allKept: 'Every promise was kept; no acknowledged row was lost.',
  })
  say(text)
  // Only a table of all scenarios is kept.
  if (words.areAll) keepReport(fileOf('pauses', words), text, measurements)
  return broken.length === 0
}

const brokenOf = ({ scenario, violations, broken }: NemesisResult) => [
  ...broken.map((text) => `${scenario}: ${text}`),
  ...violations.map(({ promise, detail }) => `${scenario}: ${promise}: ${detail}`),
]

async function playOneOfNemesis(
  stage: NemesisStage,
  scenario: Scenario,
  lastsMs = 0,
): Promise<NemesisResult> {
  const one = await playNemesis(stage, scenario, lastsMs)
  const { reads, writes, otherWrites } = one
  say(
    `${scenario.name}: of ${reads.count} reads ${reads.refused} refused, ${reads.failed} failed, longest pause ${seconds(reads.longestGapMs)} s; of ${writes.count} writes ${writes.refused} refused, ${writes.failed} failed; of ${otherWrites?.count ?? 0} writes of other groups ${otherWrites?.refused ?? 0} refused, ${otherWrites?.failed ?? 0} failed; ${one.acknowledged} changes acknowledged, ${one.unresolved} never known; recovered after ${seconds(one.healedMs)} s`,
  )
  for (const [trouble, count] of Object.entries({ ...one.troubles, ...one.reasons }))
    say(`  ${count} × ${trouble}`)
  for (const sentence of brokenOf(one)) say(`  BROKEN: ${sentence}`)
  return one
}

/** Measures what clients of the gateways are served. @returns true if every promise was kept */
async function playAgainstNemesis(words: Words, trial: Trial): Promise<boolean> {
  const stage = await prepareNemesis(trial)
  const results = await playAll(words, (scenario) => playOneOfNemesis(stage, scenario, words.seconds * 1_000))
  const broken = results.flatMap(brokenOf)
  const causal = results.reduce((sum, { steadyCausal }) => sum + steadyCausal, 0)
  const fromSecondaries = results.reduce((sum, one) => sum + one.steadyCausalFromSecondaries, 0)
  const share = ((100 * fromSecondaries) / causal).toFixed(1)
  const text = renderReport({
    title: words.suite === 'sequences' ? 'Sequences of faults' : 'Nemesis',
    ...words,
    table: `${renderNemesis(words.chosen, results)}\n\nBefore the faults ${share} % of ${causal} reads with a token were served by secondaries.`,
    broken,
    allKept:
      'No acknowledged change was lost or applied twice, no refused change had happened, and no read was older than a change of the same client or went backwards. At the end of each run the members of a group had the same rows and one timeline, and nothing was left prepared.',
  })
  say(text)
  if (words.areAll) keepReport(fileOf(words.suite, words), text, results)
  return broken.length === 0
}

/** Plays drawn sequences until the time is over. @returns true if every promise was kept */
async function playRandom(words: Words, trial: Trial): Promise<boolean> {
  const { topology } = trial.cluster.place
  const stage = await prepareNemesis(trial)
  const until = performance.now() + words.minutes * 60_000
  let isKept = true
  for (let { seed } = words; performance.now() < until; seed++) {
    const strikes = describeStrikes(drawStrikes(seed, topology))
    say(`seed ${seed}: ${strikes}`)
    const one = await playOneOfNemesis(stage, randomScenario(seed, topology))
    isKept &&= brokenOf(one).length === 0
    addToTally(fileOf('random', words), words, { seed, strikes, ...one, broken: brokenOf(one) })
  }
  return isKept
}

/** When a node is lost: in the middle of a body, and at several times after its end, while it is committed. */
const STRIKES = [
  { struckAt: 0.5, delayMs: 0 },
  { struckAt: 1, delayMs: 0 },
  { struckAt: 1, delayMs: 300 },
  { struckAt: 1, delayMs: 700 },
  { struckAt: 1, delayMs: 1_200 },
]
/** The same for a transaction, which is made when all of it has arrived. */
const STRIKES_OF_TRANSACTIONS = [0, 100, 200, 400, 700, 1_200].map((delayMs) => ({ struckAt: 1, delayMs }))

/** Sends bodies and transactions with many features that lose a node. @returns true if every promise was kept */
async function playBodies({ features, repeats }: Words, trial: Trial): Promise<boolean> {
  const stage = await prepareNemesis(trial)
  let isKept = true
  for (let repeat = 0; repeat < repeats; repeat++)
    for (const options of [
      ...STRIKES.map((strike) => ({ kind: 'body' as const, features, ...strike })),
      ...STRIKES_OF_TRANSACTIONS.map((strike) => ({
        kind: 'transaction' as const,
        features: Math.min(features, TRANSACTION_FEATURES),
        ...strike,
      })),
    ]) {
      const { outcome, stored, againMs, broken } = await playBulk(stage, options)
      const { kind, features: sent, ...strike } = options
      say(
        `${kind} with ${sent} features, struck at ${100 * strike.struckAt} % and ${strike.delayMs} ms: ${outcome}, ${stored} stored; sent again within ${seconds(againMs)} s`,
      )
      for (const sentence of broken) say(`  BROKEN: ${sentence}`)
      isKept &&= broken.length === 0
    }
  return isKept
}

const words = readWords()
const trial = await openTrial(
  {
    workers: words.workers,
    members: words.members,
    gateways: words.suite === 'pauses' ? 0 : GATEWAYS,
    // Filling a disk needs a file system for each member.
    disk: words.suite === 'random' ? DISK_MIB : 0,
  },
  say,
)
const playSuite = {
  pauses: playPauses,
  nemesis: playAgainstNemesis,
  sequences: playAgainstNemesis,
  random: playRandom,
  bulk: playBodies,
}
const isKept = await playSuite[words.suite](words, trial).finally(trial.close)
process.exit(isKept ? 0 : 1)
