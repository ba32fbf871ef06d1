// Owns the audit: its entries, which are written in the transaction of the change that they are about, and the tending of
// their table.

import type { Database } from '../../database/contract.ts'
import { bound, type Fragment } from '../../database/fragment.ts'
import type { Session } from '../../database/session.ts'
import { type SQL, sql } from '../../database/sql.ts'
import type { Statement } from '../../database/statement.ts'
import { fillTemplate, templateOf } from '../../database/template.ts'
import { CELL_COLUMN, type Collection, cellsOfStatement } from '../collections/collection.ts'
import { geojson } from '../formats/geojson.ts'
import { homeOf } from '../sharding/feature-id.ts'
import { columnOf } from '../values/column.ts'

/** The origin of a change: a caller, from somewhere, in a request. */
export type Author = {
  /** As in Principal: the id of an API key, or issuer and subject of a token; empty for nobody in particular. */
  readonly caller: string
  readonly address: string
  /** Id of the request, as in the log. */
  readonly request: string
}

export type Action = 'created' | 'changed' | 'removed'

/** What is known about one feature that has changed; texts as keptFeature returns them, if values are kept. */
export type Entry = {
  readonly action: Action
  readonly id: string
  readonly before: string | undefined
  readonly after: string | undefined
}

/** Returns true if the audit keeps features as they were, and not only their ids. */
export const keepsValues = ({ audit }: Collection) => audit === 'values'

/**
 * Returns the text of a feature in an entry. The geometry is as it is stored: nothing of it is lost, and no geometry can make
 * a change fail because GeoJSON has no word for it. It is converted when it is shown.
 */
export const keptFeature = (collection: Collection): SQL =>
  geojson.featureOf(collection, collection.properties, 'stored')

const COLUMNS = sql.raw(
  'cell, schema_name, table_name, feature_id, action, caller, address, request_id, before, after',
)

/** Spreads the entries of collections without cells evenly over the nodes. All those of a feature are in one place. */
const cellOfId = (schema: SQL, table: SQL, id: SQL): SQL =>
  sql`('x' || left(md5(${schema}::text || '.' || ${table}::text || '.' || ${id}::text), 8))::bit(32)::integer`

/** The same as homeOf, in SQL. A feature that was not created here can have an id without a cell. */
function homeCell(id: SQL, cell: SQL): SQL {
  const home = sql`substring(${id} from '^(-?\\d{1,10})\\..')::bigint`
  return sql`case when abs(${home}) < 2147483648 then (${home})::integer else ${cell} end`
}

/**
 * Returns the cell of a feature's entries, in SQL, which Citus knows before it runs the query; undefined if there can be none,
 * because no feature can have such an id.
 */
export function cellOfEntries({ level, schema, table }: Collection, id: string): SQL | undefined {
  if (level === undefined) return cellOfId(sql`${schema}`, sql`${table}`, sql`${id}`)
  const home = homeOf(id)
  return home === undefined ? undefined : sql`${home}::integer`
}

/** Compiles an entry. Its cell is the home cell of the feature, next to which the outcome of a keyed change is stored, too. */
export function compileEntry(
  collection: Collection,
  { caller, address, request }: Author,
  { action, id, before, after }: Entry,
): Statement {
  const { level, schema, table } = collection
  const isPlaced = level !== undefined
  const home = isPlaced ? homeOf(id) : undefined
  const place = (name: string) => sql`${sql.placeholder(name)}`
  const template = templateOf(
    `audit ${isPlaced}`,
    () => sql`insert into tessera.audit (${COLUMNS}) values (
      ${isPlaced ? place('home') : cellOfId(place('schema'), place('table'), place('id'))}, ${place('schema')},
      ${place('table')}, ${place('id')}, ${place('action')}, ${place('caller')}, ${place('address')}, ${place('request')},
      ${place('before')}, ${place('after')})`,
  )
  const values = { home, schema, table, id, action, caller, address, request, before, after }
  const filled = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value ?? null]))
  return fillTemplate(template, filled, cellsOfStatement(collection, home))
}

/** Returns the values of an author as parts of a statement, in the order in which composeEntries takes them. */
export const partsOfAuthor = ({ caller, address, request }: Author): Fragment[] =>
  [caller, address, request].map(bound)

/** What a statement does to many features. `stored` is for those that may have existed before. */
type ManyAction = Action | 'stored'

/**
 * Composes a change of many features that also writes their entries.
 * @param change without RETURNING
 * @param author texts of partsOfAuthor
 * @param held query of the features before the change, as heldFeatures returns it; undefined if there are none, or if the
 *   change itself returns them because it removes them
 * @param result what the statement returns, in terms of the rows that have changed
 */
export function composeEntries(
  collection: Collection,
  action: ManyAction,
  change: SQL,
  author: readonly SQL[],
  held: SQL | undefined,
  result: SQL,
): SQL {
  const { schema, table, level, idColumn } = collection
  const id = columnOf(idColumn!)
  const cell = columnOf({ name: CELL_COLUMN })
  const returned = keepsValues(collection) ? sql`*` : level === undefined ? id : sql`${id}, ${cell}`
  const feature = keepsValues(collection) ? keptFeature(collection) : sql`null::text`
  const actionOfOne =
    action === 'stored'
      ? sql`case when held.id is null then 'created' else 'changed' end`
      : sql`${sql.raw(`'${action}'`)}`
  const cellOfOne =
    level === undefined
      ? cellOfId(sql`${schema}`, sql`${table}`, sql`one.id`)
      : homeCell(sql`one.id`, sql`one.cell`)
  const before = action === 'removed' ? sql`one.feature` : held ? sql`held.feature` : sql`null::text`
  const after = action === 'removed' ? sql`null::text` : sql`one.feature`
  const texts = author.map((text) => sql`${text}::text`)
  return sql`with ${held ? sql`held as materialized (${held}), ` : sql``}changed as (${change} returning ${returned}),
    noted as (insert into tessera.audit (${COLUMNS})
      select ${cellOfOne}, ${schema}::text, ${table}::text, one.id, ${actionOfOne}, ${sql.join(texts, sql`, `)}, ${before}, ${after}
      from (select ${id}::text as id, ${level === undefined ? sql`0` : cell} as cell, ${feature} as feature from changed) as one
      ${held ? sql`left join held on held.id = one.id` : sql``})
    select ${result} from changed`
}

/** Returns the query of features as they are before many of them are changed. @param from the table, and what selects them */
export const heldFeatures = (collection: Collection, from: SQL): SQL =>
  sql`select ${columnOf(collection.idColumn!)}::text as id, ${keepsValues(collection) ? keptFeature(collection) : sql`null::text`} as feature from ${from}`

/** Sets for how many days entries are kept; undefined for ever. */
export async function keepEntries(session: Session, days: number | undefined) {
  await session.transaction(async () => {
    await session.query('delete from tessera.audit_retention')
    if (days !== undefined) await session.query('insert into tessera.audit_retention values ($1)', [days])
  })
}

/** Interval at which a process lets the database create partitions, and drop those that are no longer kept. */
const TEND_INTERVAL_MS = 3_600_000
/** Longest time from the start of a process until it does so first. Not all processes do it at the same time. */
const FIRST_TEND_MS = 60_000

/** True if the role of the write port may tend the table. */
const allowed: Statement = {
  text: "select has_function_privilege(to_regprocedure('tessera.tend_audit()'), 'execute')",
  values: [],
}
const tend: Statement = { text: 'select tessera.tend_audit()', values: [] }

/** Lets the database tend the table of entries from time to time. @returns a function that stops it */
export function tendAudit(database: Database): () => void {
  let timer: NodeJS.Timeout
  const schedule = (milliseconds: number) => {
    timer = setTimeout(async () => {
      await tendNow(database).catch(() => {
        // Partitions exist for a month ahead, and it is tried again long before.
      })
      schedule(TEND_INTERVAL_MS)
    }, milliseconds).unref()
  }
  if (database.canWrite) schedule(FIRST_TEND_MS * Math.random())
  return () => clearTimeout(timer)
}

async function tendNow(database: Database) {
  const [row] = await database.write(allowed, { isRepeatable: true, mayWait: false })
  if (row?.[0] === 't') await database.write(tend, { isRepeatable: true, mayWait: false })
}
