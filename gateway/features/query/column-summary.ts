// Owns the summary of a column: its most frequent values, or the bounds of classes of a number, from a sample of bounded size.

import type { Database } from '../../database/contract.ts'
import { type SQL, sql } from '../../database/sql.ts'
import type { Row, Statement } from '../../database/statement.ts'
import { statementOf } from '../../database/template.ts'
import { gatewayError, quoted } from '../../errors.ts'
import { type Collection, isSpread, tableOf } from '../collections/collection.ts'
import { type Column, columnOf } from '../values/column.ts'

export type ColumnSummary = {
  /** Number of features in the sample, and of those that have no value. */
  readonly sampled: number
  readonly missing: number
  /** The most frequent values, the most frequent first; those of a number only if it has few. */
  readonly values: readonly { readonly value: string | number | boolean; readonly count: number }[]
  /** Least value, upper bounds of classes with about as many features each, and greatest value; of numbers with many values. */
  readonly bounds: readonly number[] | undefined
}

/** Features of a sample, at most: PostgreSQL reads and counts them in some tens of milliseconds. */
const MAX_SAMPLE = 100_000
/** Values that are listed: people cannot tell more colours. */
const MAX_VALUES = 8
/** Longest text that is listed, in characters. */
const MAX_LENGTH = 100
const CLASSES = 5
/** Time limit: views can compute anything. */
const TIMEOUT_MS = 3_000
/** Numbers beyond this are left out, and those that are none. */
const GREATEST = '1e300'

/** True for a column that features can be told apart by at a glance. */
export const isSummarized = ({ kind, isArray }: Column): boolean =>
  !isArray && (kind === 'integer' || kind === 'number' || kind === 'string' || kind === 'boolean')

/** @throws GatewayError parameter-invalid */
export function columnToSummarize({ id, properties }: Collection, name: string): Column {
  const known = properties.filter(isSummarized)
  const found = known.find((column) => column.name === name)
  if (found) return found
  const names = known.map((column) => column.name)
  const [example = 'name'] = names
  const allowed =
    names.length > 0 ? `one of ${names.slice(0, 20).map(quoted).join(', ')}` : 'left out: there is none'
  throw gatewayError(
    'parameter-invalid',
    `property must be a text, a number or a boolean of ${id}, ${allowed}; ${quoted(name)} is none.`,
    { parameter: 'property', example },
  )
}

const isNumber = ({ kind }: Column) => kind === 'integer' || kind === 'number'

/**
 * Returns a statement for a row with the size of the sample, the number of values in it, and the bounds; and a row for each
 * frequent value.
 */
export function compileSummary(collection: Collection, column: Column): Statement {
  const value = columnOf(column)
  const counted = isNumber(column)
    ? sql`value between -${sql.raw(GREATEST)} and ${sql.raw(GREATEST)}`
    : sql`value is not null`
  const listed = isNumber(column) ? sql`` : sql` and length(value::text) <= ${sql.raw(String(MAX_LENGTH))}`
  const shares = Array.from({ length: CLASSES + 1 }, (_, index) => index / CLASSES).join()
  const bounds = isNumber(column)
    ? sql`array_to_string(percentile_disc(array[${sql.raw(shares)}]::float8[]) within group (order by value) filter (where ${counted}), ',')`
    : sql`null`
  return statementOf(sql`with sample as materialized (${sampleOf(collection, value)}),
    frequent as (select value::text as value, count(*) as held from sample where ${counted}${listed}
      group by sample.value order by held desc, sample.value limit ${sql.raw(String(MAX_VALUES + 1))})
    select count(*)::text, count(*) filter (where ${counted}), ${bounds} from sample
    union all select value, held, null from frequent`)
}

/** A part of the blocks of a large table; the first rows of what has no blocks of its own, such as views. */
function sampleOf(collection: Collection, value: SQL): SQL {
  const { estimatedRows, hasPositions } = collection
  const isSmall = estimatedRows <= MAX_SAMPLE
  const percent = ((100 * MAX_SAMPLE) / estimatedRows).toPrecision(3)
  const part =
    isSmall || !hasPositions || isSpread(collection)
      ? sql``
      : sql` tablesample system (${sql.raw(percent)}) repeatable (1)`
  return sql`select ${value} as value from ${tableOf(collection)}${part} limit ${sql.raw(String(MAX_SAMPLE))}`
}

/** @throws GatewayError */
export async function readSummary(
  database: Database,
  collection: Collection,
  column: Column,
  signal: AbortSignal,
): Promise<ColumnSummary> {
  const statement = { ...compileSummary(collection, column), timeLimitMs: TIMEOUT_MS }
  return summaryOf(await database.read(statement, { signal, priority: 'usual' }), column)
}

/** Returns the summary from the rows of the statement. */
export function summaryOf(rows: readonly Row[], column: Column): ColumnSummary {
  const [total, ...unordered] = rows
  const [sampled, present, quantiles] = total!
  const frequent = unordered.toSorted(([, one], [, other]) => Number(other) - Number(one))
  const known = { sampled: Number(sampled), missing: Number(sampled) - Number(present) }
  if (isNumber(column) && frequent.length > MAX_VALUES)
    return { ...known, values: [], bounds: boundsOf(quantiles!.split(',').map(Number)) }
  const values = frequent.slice(0, MAX_VALUES).map(([text, held]) => ({
    value: isNumber(column) ? Number(text) : column.kind === 'boolean' ? text === 'true' : text!,
    count: Number(held),
  }))
  const inOrder = isNumber(column)
    ? values.toSorted((one, other) => Number(one.value) - Number(other.value))
    : values
  return { ...known, values: inOrder, bounds: undefined }
}

/** Digits of bounds: people read round numbers. */
const DIGITS = 2

/** Returns the bounds as round numbers, as far as these are in order and within the values; each of them once. */
function boundsOf(quantiles: readonly number[]): number[] {
  const [least, greatest] = [quantiles[0]!, quantiles.at(-1)!]
  const inner = quantiles.slice(1, -1).filter((bound) => bound > least)
  const round = inner.map((bound) => Number(bound.toPrecision(DIGITS)))
  const isInOrder = round.every((bound, index) => bound > (round[index - 1] ?? least) && bound <= greatest)
  return [least, ...new Set(isInOrder ? round : inner), greatest]
}
