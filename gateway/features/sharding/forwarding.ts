// Owns moves of features to other cells: the row goes to its new cell, and a forwarding row stays in its home cell.

import { type SQL, sql } from '../../database/sql.ts'
import type { Statement } from '../../database/statement.ts'
import { fillTemplate, templateOf } from '../../database/template.ts'
import { type Collection, cellColumn, cellsOfStatement, tableOf } from '../collections/collection.ts'

const isOf = ({ schema, table }: Collection) => sql`schema_name = ${schema} and table_name = ${table}`
const placeholder = (name: string) => sql`${sql.placeholder(name)}`

/**
 * Compiles the look-up of the cell in which a feature is now: one row, or none if there is no such feature. Features
 * and forwarding rows of a home cell are stored together, so both are read at one moment, and exactly one has the cell.
 * @param home the cell with which the id begins
 */
export function compileWhereabouts(collection: Collection, id: string, home: number): Statement {
  const template = templateOf(
    `whereabouts ${collection.version}`,
    () => sql`select ${cellColumn} from ${tableOf(collection)}
      where ${cellColumn} = ${placeholder('home')} and ${sql.identifier(collection.idColumn!.name)} = ${placeholder('id')}
      union all select moved_to from tessera.moved_feature
      where cell = ${placeholder('home')} and id = ${placeholder('id')} and ${isOf(collection)}`,
  )
  return fillTemplate(template, { id, home }, cellsOfStatement(collection, home))
}

/**
 * Compiles the claim of a feature, which locks its forwarding row until the end of the transaction and returns the cell
 * that the row names. If there is no such row, it is created and names the home cell. Every transaction that moves a
 * feature, or removes it from another cell than its home, starts with a claim, so that all of them wait in line for
 * one row of one node.
 */
export function compileClaim(collection: Collection, id: string, home: number): Statement {
  const template = templateOf(`claim ${collection.version}`, () => {
    const { schema, table } = collection
    return sql`insert into tessera.moved_feature as word
        (schema_name, table_name, cell, id, moved_to)
      values (${schema}, ${table}, ${placeholder('home')}, ${placeholder('id')}, ${placeholder('home')})
      on conflict (cell, id, table_name, schema_name) do update set moved_to = word.moved_to returning moved_to`
  })
  return fillTemplate(template, { id, home }, cellsOfStatement(collection, home))
}

/** Compiles the forwarding row of a feature that is not in its home cell. */
export function compileForward(collection: Collection, id: string, home: number, to: number): Statement {
  const template = templateOf(`forward ${collection.version}`, () => {
    const { schema, table } = collection
    return sql`insert into tessera.moved_feature
        (schema_name, table_name, cell, id, moved_to)
      values (${schema}, ${table}, ${placeholder('home')}, ${placeholder('id')}, ${placeholder('to')})
      on conflict (cell, id, table_name, schema_name) do update set moved_to = excluded.moved_to`
  })
  return fillTemplate(template, { id, home, to }, cellsOfStatement(collection, home))
}

/** Compiles the removal of a forwarding row, if its feature is back in its home cell or no longer exists. */
export function compileForget(collection: Collection, id: string, home: number): Statement {
  const template = templateOf(
    `forget ${collection.version}`,
    () => sql`delete from tessera.moved_feature
      where cell = ${placeholder('home')} and id = ${placeholder('id')} and ${isOf(collection)}`,
  )
  return fillTemplate(template, { id, home }, cellsOfStatement(collection, home))
}

/** New value of a column in a row that moves. */
export type KeptColumn = { readonly name: string; readonly value: SQL }

/**
 * Composes the removal of a row from its cell: one row with all columns that stay as they are, or none. They are not cast to
 * texts, which rows consist of anyway: such a cast of a time is not immutable, and Citus allows nothing else there.
 * @param where selects the row, with the condition of the change
 */
export function departure(collection: Collection, kept: readonly KeptColumn[], where: SQL): SQL {
  const values = kept.map(({ value }) => value)
  return sql`delete from ${tableOf(collection)} ${where} returning ${values.length > 0 ? sql.join(values, sql.raw(', ')) : sql`1`}`
}
