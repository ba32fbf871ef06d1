// Owns what is right and wrong about the table or view of a collection. It does no I/O.

import type { Collection } from '../../features/collections/collection.ts'
import type { Storage } from '../../features/collections/storage.ts'
import { type Finding, inSql, qualified } from './finding.ts'

/** Tables of fewer rows are read in a moment without an index. */
const MANY_ROWS = 10_000
/** A table has too many dead rows if they are at least this many, and more than the others. */
const MANY_DEAD_ROWS = 10_000

const KINDS: Readonly<Record<Storage['kind'], string>> = {
  r: 'table',
  p: 'partitioned table',
  v: 'view',
  m: 'materialized view',
  f: 'foreign table',
}

/** Returns what is wrong with the storage of a collection. */
export function judgeStorage(collection: Collection, storage: Storage): readonly Finding[] {
  const name = qualified(collection)
  const subject = collection.id
  const { kind } = storage
  const isTable = kind === 'r' || kind === 'p'
  const rows = rowsOf(collection, storage)
  const found: Finding[] = []
  const add = (severity: Finding['severity'], check: string, finding: string, remedy: string) =>
    found.push({ severity, check, subject, finding, remedy })

  if (!collection.idColumn)
    add(
      isTable ? 'warning' : 'note',
      'no-key',
      `The ${KINDS[kind]} has no key of one column: its features have no addresses${isTable ? ', and cannot be changed' : ''}.`,
      isTable ? remedyForKey(collection, storage) : remedyForView(kind),
    )
  const missing = missingIndexes(collection, storage)
  if (missing.length > 0)
    add(
      'warning',
      'no-spatial-index',
      `No index finds boxes in its ${rows === undefined ? 'rows' : `${rows.toLocaleString('en')} rows`}: each map reads all of them.`,
      missing.join(' '),
    )
  for (const index of storage.brokenIndexes)
    add(
      'warning',
      'broken-index',
      `The index ${index} is not valid: changes keep it up to date, and no query uses it.`,
      `reindex index concurrently ${inSql(collection.schema)}.${inSql(index)};`,
    )
  if ((kind === 'r' || kind === 'm') && rows === undefined && !collection.distribution)
    add(
      'note',
      'no-statistics',
      'PostgreSQL has no statistics of it, so that plans may be bad.',
      `analyze ${name};`,
    )
  if (storage.deadRows >= MANY_DEAD_ROWS && storage.deadRows > storage.liveRows)
    add(
      'warning',
      'dead-rows',
      `It has ${storage.deadRows.toLocaleString('en')} dead rows and ${storage.liveRows.toLocaleString('en')} live ones.`,
      `vacuum (analyze) ${name}; and look for transactions that stay open, which keep it from removing rows.`,
    )
  return found
}

function remedyForKey(collection: Collection, { candidate }: Storage): string {
  const name = qualified(collection)
  if (collection.distribution?.by === 'column')
    return `alter table ${name} add primary key (…); on Citus a key must have the column ${inSql(collection.distribution.column)}.`
  return candidate === null
    ? `alter table ${name} add column id bigint generated always as identity primary key;`
    : `alter table ${name} add primary key (${inSql(candidate)});`
}

const remedyForView = (kind: Storage['kind']) =>
  kind === 'v'
    ? 'A view has the key of its table if it shows the columns of the key and reads no other table.'
    : 'Serve a table with a primary key if features need addresses.'

/** Returns how many rows a table has; undefined if that is not known, as on Citus, where its shards have the rows. */
const rowsOf = ({ distribution }: Collection, { rows }: Storage) =>
  rows < 0 || distribution ? undefined : rows

/** Returns the statements that would make the indexes which boxes need. */
function missingIndexes(collection: Collection, storage: Storage): readonly string[] {
  const { kind } = storage
  const rows = rowsOf(collection, storage)
  // A table whose rows nothing has counted has few. Of one that has parts, the statistics are those of the parts.
  const isLarge = rows === undefined ? kind === 'p' || collection.distribution : rows >= MANY_ROWS
  if ((kind !== 'r' && kind !== 'p' && kind !== 'm') || !isLarge) return []
  const { column, isGeography, srid } = collection.geometry
  const create = `create index${kind === 'p' ? '' : ' concurrently'} on ${qualified(collection)}`
  const name = inSql(column)
  if (isGeography) return storage.isIndexedAsGeometry ? [] : [`${create} using gist ((${name}::geometry));`]
  return [
    ...(storage.isIndexed ? [] : [`${create} using gist (${name});`]),
    ...(srid !== undefined || storage.isSystemIndexed
      ? []
      : [`${create} (st_srid(${name})) where st_srid(${name}) not in (0, 4326);`]),
  ]
}
