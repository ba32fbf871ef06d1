// Owns the creation of the samples of a collection, while clients read and change it.

import type { Session } from '../../database/session.ts'
import { sql } from '../../database/sql.ts'
import { statementOf } from '../../database/template.ts'
import { UserError } from '../../errors.ts'
import { type Column, columnOf } from '../values/column.ts'
import { type Collection, tableOf } from './collection.ts'
import { sampleCondition, samplesFor } from './sample.ts'

/** A tile of all features takes a second. */
const MANY_FEATURES = 1_000_000

/** What there is to know of a table before it gets samples. */
type Sampled = Pick<Collection, 'schema' | 'table' | 'samples'> & {
  readonly key: readonly Pick<Column, 'name'>[]
  readonly geometry: Pick<Collection['geometry'], 'column'>
}

/**
 * Creates the samples that a table needs and does not have, while clients read and change it.
 * @param onSample called before each of them, with its number and how many are needed
 * @returns how many are needed
 * @throws UserError if its rows are not stored in it
 * @throws the driver's error, for example if another role owns the table
 */
export async function createSamples(
  session: Session,
  collection: Sampled,
  onSample: (sample: number, needed: number) => void,
): Promise<number> {
  const { schema, table, samples } = collection
  const [found] = await session.query<{ kind: string; broken: string[] }>(
    `select c.relkind as kind, array(
        select format('%I.%I', n.nspname, i.relname) from pg_index x join pg_class i on i.oid = x.indexrelid
        where x.indrelid = c.oid and not x.indisvalid and pg_get_expr(x.indpred, x.indrelid) like '(hash\\_record(%'
      ) as broken
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2`,
    [schema, table],
  )
  const { kind, broken } = found!
  if (!/^[rmp]$/.test(kind))
    throw new UserError(`${table} is a view or a foreign table: prepare the table that has its rows.`)
  // An index whose creation was interrupted stays, and costs every change.
  for (const name of broken) await session.query(`drop index concurrently ${name}`)
  const needed = samplesFor(await countFeatures(session, collection))
  for (let sample = 1; sample <= needed; sample++) {
    if (samples.includes(sample)) continue
    onSample(sample, needed)
    // PostgreSQL has no such way for partitioned tables.
    await session.query(indexOf(collection, sample, kind !== 'p'))
  }
  return needed
}

/** Creates the samples of a new table, in the transaction that creates it, if it has so many features that maps need them. */
export async function createFirstSamples(session: Session, collection: Sampled): Promise<void> {
  const features = await countFeatures(session, collection)
  const needed = features < MANY_FEATURES ? 0 : samplesFor(features)
  for (let sample = 1; sample <= needed; sample++) await session.query(indexOf(collection, sample, false))
}

async function countFeatures(session: Session, collection: Sampled): Promise<number> {
  const { text } = statementOf(sql`select count(*)::float8 as features from ${tableOf(collection)}`)
  const [row] = await session.query<{ features: number }>(text)
  return row!.features
}

/** Returns the statement for the index of a sample. @param isConcurrent true to let clients change the table meanwhile */
export function indexOf(collection: Sampled, sample: number, isConcurrent: boolean): string {
  const how = sql.raw(isConcurrent ? 'concurrently ' : '')
  const column = columnOf({ name: collection.geometry.column })
  const condition = sampleCondition(collection.key, sample)!
  return statementOf(
    sql`create index ${how}on ${tableOf(collection)} using gist (${column}) where ${condition}`,
  ).text
}
