// Owns `tessera audit`: shows who has changed what, and sets how long that is kept.

import { ConfigError, readConfig } from '../config.ts'
import type { Session } from '../database/session.ts'
import { listApiKeys } from '../features/access/api-key.ts'
import { durationIn } from '../features/access/lifetime.ts'
import { keepEntries } from '../features/changes/audit.ts'
import {
  compileEntries,
  type EntrySelection,
  entryIn,
  type KeptEntry,
} from '../features/changes/audit-query.ts'
import { collectionId, relationOf } from '../features/collections/collection.ts'
import { runAsOwner } from './run-as-owner.ts'
import { writeTable } from './table.ts'

const OPTIONS = {
  since: 'value',
  until: 'value',
  who: 'value',
  id: 'value',
  limit: 'value',
  json: 'flag',
  keep: 'value',
} as const
type Options = Readonly<Partial<Record<keyof typeof OPTIONS, string>>>

/** Entries that are shown without `--limit`. */
const DEFAULT_LIMIT = 100
/** Entries that are read at once: those with values can be large. */
const BATCH = 500
/** A caller without credentials, on the command line. */
const NOBODY = 'nobody'
const FOREVER = 'forever'
const DAY_MS = 86_400_000

export async function runAudit(args: readonly string[]) {
  const { config, options, positionals } = readConfig(args, OPTIONS)
  const work = planWork(positionals, options)
  await runAsOwner(config, work)
}

function planWork(
  [collection, ...rest]: readonly string[],
  options: Options,
): (session: Session) => Promise<void> {
  if (options.keep !== undefined && collection === undefined && Object.keys(options).length === 1)
    return keep(options.keep)
  if (rest.length > 0 || options.keep !== undefined)
    throw new ConfigError(
      'audit takes one collection, or none for all, or --keep: tessera audit parcels --since 7d',
    )
  const { since, until, who, id, limit, json } = options
  const relation = collection === undefined ? undefined : relationOf(collection)
  if (collection !== undefined && !relation)
    throw new ConfigError(`${collection} cannot be the name of a collection.`)
  const selection: EntrySelection = {
    relation,
    feature: id,
    start: since === undefined ? undefined : pastTime(since, '--since'),
    end: until === undefined ? undefined : pastTime(until, '--until'),
  }
  const most = limit === undefined ? DEFAULT_LIMIT : parseLimit(limit)
  return (session) => show(session, selection, who, most, json === 'true')
}

function keep(text: string): (session: Session) => Promise<void> {
  const days = text === FOREVER ? undefined : Math.floor((durationIn(text) ?? 0) / DAY_MS)
  if (days === 0) throw new ConfigError(`--keep=${text}: must be a day at least, as in 400d, or ${FOREVER}.`)
  return async (session) => {
    await keepEntries(session, days)
    process.stdout.write(
      days === undefined
        ? 'Entries are kept for ever.\n'
        : `Entries are kept for ${days} days. Gateways drop older ones, a month at a time.\n`,
    )
  }
}

function parseLimit(text: string): number {
  if (text === 'none') return Number.POSITIVE_INFINITY
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text)
  throw new ConfigError(`--limit=${text}: must be a number of entries, or none for all of them.`)
}

/** Returns a time: so long ago, as in 7d, or a date, or a date and a time. */
function pastTime(text: string, option: string): string {
  const ago = durationIn(text)
  const time =
    ago === undefined
      ? new Date(/^\d{4}-\d\d-\d\d/.test(text) ? text : Number.NaN)
      : new Date(Date.now() - ago)
  if (Number.isNaN(time.getTime()))
    throw new ConfigError(
      `${option} must be hours or days ago, as in 7d, a date or a date and time in UTC, as in 2031-12-31T12:00:00Z, and not "${text}".`,
    )
  return time.toISOString()
}

async function show(
  session: Session,
  selection: EntrySelection,
  who: string | undefined,
  most: number,
  isJson: boolean,
) {
  const keys = new Map((await listApiKeys(session)).map(({ id, name }) => [id, name]))
  const callers =
    who === undefined
      ? undefined
      : [who === NOBODY ? '' : who, ...[...keys].flatMap(([id, name]) => (name === who ? [id] : []))]
  const rows: string[][] = []
  for await (const entry of read(session, { ...selection, callers }, most)) {
    if (isJson) process.stdout.write(`${JSON.stringify(documentOf(entry))}\n`)
    else rows.push(lineOf(entry, keys))
  }
  if (!isJson) writeTable([['TIME', 'COLLECTION', 'FEATURE', 'ACTION', 'WHO', 'FROM', 'REQUEST'], ...rows])
}

async function* read(session: Session, selection: EntrySelection, most: number): AsyncGenerator<KeptEntry> {
  let after: KeptEntry | undefined
  for (let left = most; left > 0; left -= BATCH) {
    const batch = Math.min(BATCH, left)
    const { text, values } = compileEntries({ ...selection, after }, batch)
    const rows = await session.query<{ kept: string }>(text, values)
    const entries = rows.map(({ kept }) => entryIn([kept]))
    yield* entries
    if (entries.length < batch) return
    after = entries.at(-1)
  }
}

/** @param keys names of API keys by their ids */
function lineOf(
  { time, schema, table, feature, action, caller, address, request }: KeptEntry,
  keys: ReadonlyMap<string, string>,
): string[] {
  const name = keys.get(caller)
  const who = caller === '' ? NOBODY : name === undefined ? caller : `${caller} (${name})`
  return [time, collectionId(schema, table), feature, action, who, address, request]
}

/** Returns an entry for programs. Features are objects, with their geometries in hexadecimal EWKB. */
function documentOf({ schema, table, caller, before, after, entry: _, ...rest }: KeptEntry) {
  return {
    collection: collectionId(schema, table),
    caller: caller === '' ? null : caller,
    ...rest,
    ...(before === null ? {} : { before: JSON.parse(`${before}}`) }),
    ...(after === null ? {} : { after: JSON.parse(`${after}}`) }),
  }
}
