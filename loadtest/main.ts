// Owns `npm run loadtest`: its command line, a run from its settings to its report, and the comparison of two runs.

import { execFileSync, spawn } from 'node:child_process'
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { StringDecoder } from 'node:string_decoder'
import { setTimeout as sleep } from 'node:timers/promises'
import { findK6, installK6, runK6, THRESHOLDS_CROSSED, versionOf } from './k6.ts'
import { type Observation, observe } from './observe.ts'
import { makeRecordReader, type Snapshot } from './record.ts'
import { renderReport } from './report.ts'
import { readSettings, type Settings, SettingsError, variables } from './scripts/settings.ts'
import { compare, limitOf, numbersOf, type Summary, show, summarize, timeOf } from './summary.ts'

const folder = import.meta.dirname
const SCRIPTS: Readonly<Record<string, string>> = {
  read: 'users look at a map: views, features, filters, pages',
  write: 'editors create, change and remove features',
  mixed: 'readers and editors, in the proportion of READ_RATIO to WRITE_RATIO',
  'read-your-writes': 'users look at what they have just changed, and must see it',
  session: 'a person looks at a map, with pauses to think',
  soak: 'mixed at an easy pace, for an hour',
  spike: 'a tenth of the users, suddenly all, and a tenth again',
  failover: 'mixed in each part of the cluster, while a member is lost',
}
/** Variables of this program; scripts/settings.ts has those that the scripts read too. */
const OWN_VARIABLES = {
  RESULTS: ['folder for results', join(folder, 'results')],
  FAULT: ['for failover: kill, crash, freeze, partition, switchover or none', 'kill'],
  MEMBER: ['for failover: the member; the name of a group means its primary', 'w1'],
} as const
const { RESULTS = OWN_VARIABLES.RESULTS[1] } = process.env
const FAULTS = ['kill', 'crash', 'freeze', 'partition', 'switchover', 'none']

/** Tags for whose values k6 keeps separate records; scripts/users.ts sets them. */
const TAGS = ['kind', 'flow', 'reason']
const PROGRESS_INTERVAL_MS = 1_000

const say = (line: string) => process.stdout.write(`${line}\n`)

function usage(): string {
  const list = (entries: readonly (readonly [string, string])[]) =>
    entries.map(([name, does]) => `  ${name.padEnd(20)}${does}`).join('\n')
  const settings = Object.entries({ ...variables, ...OWN_VARIABLES }).map(
    ([name, [does, fallback]]) => [name, fallback ? `${does} [${fallback}]` : does] as const,
  )
  return `[VARIABLE=… …] npm run loadtest -- NAME

${list(Object.entries(SCRIPTS))}

  setup               installs k6, if Go is installed
  compare A B         compares two results, by folder

Variables:
${list(settings)}

The exit code is 0 if all thresholds are met and no feature is left behind.
`
}

/** A call that cannot be carried out; the message is for the user. */
class UsageError extends Error {}

type Fault = { readonly kind: string; readonly member: string }

function readFault(name: string): Fault | undefined {
  const { FAULT: kind = OWN_VARIABLES.FAULT[1], MEMBER: member = OWN_VARIABLES.MEMBER[1] } = process.env
  if (name !== 'failover' || kind === 'none') return undefined
  if (!FAULTS.includes(kind)) throw new SettingsError(`FAULT=${kind}: must be one of ${FAULTS.join(', ')}.`)
  return { kind, member }
}

/**
 * Injects the fault when all users have come and a third of the run time has passed; it lasts for another third.
 * Does nothing if the run ends before that.
 */
async function strike(
  { kind, member }: Fault,
  { users, spawnRate, runTime }: Settings,
  { happenings }: Observation,
  isBusy: () => boolean,
  signal: AbortSignal,
) {
  const wait = (ms: number) => sleep(ms, undefined, { signal }).catch(() => {})
  while (!isBusy() && !signal.aborted) await wait(BUSY_CHECK_MS)
  await wait((users / spawnRate + runTime / 3) * 1_000)
  if (signal.aborted) return
  const seconds = Math.max(1, Math.round(runTime / 3))
  const command =
    kind === 'switchover' ? ['switchover', member] : ['fault', kind, member, '--seconds', String(seconds)]
  happenings.push({ at: Date.now(), what: `npm run cluster -- ${command.join(' ')}`, isTrouble: true })
  const child = spawn(process.execPath, [join(folder, '../cluster/main.ts'), ...command], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const code = await new Promise<number | null>((resolve) => child.once('exit', resolve))
  if (code !== 0)
    throw new UsageError(
      'The fault could not be injected, see above: failover needs a cluster on this machine (npm run cluster -- up), or FAULT=none.',
    )
  happenings.push({ at: Date.now(), what: `${kind} of ${member} is over`, isTrouble: false })
}

/** Milliseconds between checks whether users have come. */
const BUSY_CHECK_MS = 200

/** Prints the progress of a run, one line per second. */
async function tellProgress(
  recordFile: string,
  reader: ReturnType<typeof makeRecordReader>,
  signal: AbortSignal,
) {
  const decoder = new StringDecoder()
  let position = 0
  const advance = () => {
    if (!existsSync(recordFile)) return
    const file = openSync(recordFile, 'r')
    const chunk = Buffer.alloc(fstatSync(file).size - position)
    const length = readSync(file, chunk, 0, chunk.length, position)
    closeSync(file)
    position += length
    reader.add(decoder.write(chunk.subarray(0, length)))
  }
  while (!signal.aborted) {
    await sleep(PROGRESS_INTERVAL_MS, undefined, { signal }).catch(() => {})
    const told = reader.snapshots.length
    advance()
    const latest = reader.snapshots.at(-1)
    if (latest && reader.snapshots.length > told && !signal.aborted) say(progressOf(latest, reader.snapshots))
  }
  advance()
}

function progressOf({ at, metrics }: Snapshot, all: readonly Snapshot[]): string {
  const rateOf = (name: string) => metrics[name]?.rate ?? 0
  const p95 =
    metrics['http_req_duration{kind:read}']?.['p(95)'] ?? metrics['http_req_duration{kind:write}']?.['p(95)']
  const seconds = Math.round((at - all[0]!.at) / 1_000)
  const parts = [
    `${String(seconds).padStart(5)} s`,
    `${metrics.vus?.value ?? all.at(-2)?.metrics.vus?.value ?? 0} users`,
    `${show(Math.round(rateOf('http_reqs{kind:read}')))} reads/s`,
    `${show(Math.round(rateOf('http_reqs{kind:write}')))} writes/s`,
    ...(p95 === undefined ? [] : [`p95 ${show(p95)} ms`]),
    `${Math.round(rateOf('errors'))} not served`,
  ]
  return parts.join(', ')
}

/** Counts what the run left behind. @returns undefined if the gateway does not answer or does not know the number */
async function countLeft({ target, collection, mark }: Settings): Promise<number | undefined> {
  const url = `${target}/collections/${encodeURIComponent(collection)}/items?name=${encodeURIComponent(mark)}&limit=1`
  const response = await fetch(url, { headers: { prefer: 'consistency=strong' } }).catch(() => undefined)
  if (!response?.ok) return undefined
  const { numberMatched } = (await response.json()) as { numberMatched?: number }
  return numberMatched
}

async function checkTarget({ target, collection }: Settings) {
  const url = `${target}/collections/${encodeURIComponent(collection)}`
  const response = await fetch(url).catch(() => undefined)
  if (!response)
    throw new UsageError(
      `No gateway answers at TARGET=${target}. Start one (npm start, or npm run cluster -- up, which prints its address), or set another TARGET.`,
    )
  if (!response.ok)
    throw new UsageError(
      `${url} returned ${response.status}: COLLECTION must be a collection that the gateway serves.`,
    )
}

const commit = () => {
  try {
    const text = (...args: string[]) => execFileSync('git', args, { cwd: folder, encoding: 'utf8' }).trim()
    return (
      text('rev-parse', '--short', 'HEAD') +
      (text('status', '--porcelain') ? ' with uncommitted changes' : '')
    )
  } catch {
    return 'unknown'
  }
}

/** @returns the exit code */
async function play(name: string): Promise<number> {
  const settings = readSettings(process.env, name === 'soak' ? { runTime: 3_600 } : {})
  const fault = readFault(name)
  const k6 = findK6()
  if (!k6) throw new UsageError('k6 is not installed; npm run loadtest -- setup installs it.')
  await checkTarget(settings)
  const startedAt = new Date().toISOString()
  const place = join(RESULTS, `${startedAt.slice(0, 19).replaceAll(':', '')}-${name}`)
  mkdirSync(place, { recursive: true })
  const file = (name: string) => join(place, name)
  const reader = makeRecordReader()
  const { observation, stop } = observe(settings.target, settings.apiKey)
  const ending = new AbortController()
  const progress = tellProgress(file('record.ndjson'), reader, ending.signal)
  say(`${name}: ${SCRIPTS[name]}; ${settings.users} users for ${settings.runTime} s at ${settings.target}`)
  const run = {
    script: join(folder, 'scripts', `${name}.ts`),
    environment: { RUN_MARK: settings.mark, RUN_TIME: String(settings.runTime) },
    reportFile: file('k6.html'),
    summaryFile: file('k6.json'),
    recordFile: file('record.ndjson'),
    tags: TAGS,
  }
  let striking: Promise<void> | undefined
  const code = await runK6(k6, run, () => {
    const isBusy = () => timeOf(reader.snapshots).to > 0
    striking = fault && strike(fault, settings, observation, isBusy, ending.signal)
    striking?.catch(() => {})
  })
  ending.abort()
  await Promise.all([progress, stop()])
  await striking
  if (code !== 0 && code !== THRESHOLDS_CROSSED)
    throw new UsageError(`k6 ended with exit code ${code}; see above.`)
  const { snapshots } = reader
  const { apiKey: _, ...told } = settings
  // setup_data has all cities that the users know: it is large, and no result.
  const { setup_data: __, ...k6Summary } = JSON.parse(readFileSync(file('k6.json'), 'utf8'))
  writeFileSync(file('k6.json'), JSON.stringify(k6Summary, null, 2))
  const summary = summarize(k6Summary, snapshots, observation, {
    name,
    startedAt,
    settings: told,
    k6: versionOf(k6),
    commit: commit(),
    left: await countLeft(settings),
  })
  writeFileSync(file('summary.json'), JSON.stringify(summary, null, 2))
  writeFileSync(file('index.html'), renderReport({ summary, snapshots, usage: observation.usage }))
  return tellSummary(summary, place)
}

/** @returns the exit code */
function tellSummary(summary: Summary, place: string): number {
  const { thresholds, left, errors } = summary
  for (const [name, value] of numbersOf(summary)) say(`  ${name.padEnd(30)}${show(value)}`)
  for (const [reason, count] of Object.entries(errors)) say(`  ${`not served: ${reason}`.padEnd(30)}${count}`)
  for (const { metric, condition, isMet } of thresholds) say(`  ${isMet ? '✔' : '✖'} ${metric}: ${condition}`)
  if (left) say(`  ✖ ${left} features named ${summary.settings.mark} were left behind`)
  say(limitOf(summary))
  say(`${join(place, 'index.html')}`)
  return left || thresholds.some(({ isMet }) => !isMet) ? 1 : 0
}

function readResult(named: string): Summary {
  const place = [named, join(RESULTS, named)].find((place) => existsSync(join(place, 'summary.json')))
  if (place) return JSON.parse(readFileSync(join(place, 'summary.json'), 'utf8'))
  const known = existsSync(RESULTS)
    ? readdirSync(RESULTS).filter((name) => existsSync(join(RESULTS, name, 'summary.json')))
    : []
  throw new UsageError(`There is no result ${basename(named)}; there are ${known.join(', ') || 'none yet'}.`)
}

const [name = '', ...rest] = process.argv.slice(2)
try {
  if (name === 'setup') installK6(say)
  else if (name === 'compare' && rest.length === 2) {
    // biome-ignore lint/suspicious/noConsole: the table is the output of this command
    console.table(compare(readResult(rest[0]!), readResult(rest[1]!)))
  } else if (Object.hasOwn(SCRIPTS, name) && rest.length === 0) process.exitCode = await play(name)
  else throw new UsageError(`${name ? `There is no ${[name, ...rest].join(' ')}.\n\n` : ''}${usage()}`)
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`)
  process.exitCode = error instanceof UsageError || error instanceof SettingsError ? 2 : 1
}
process.exit()
