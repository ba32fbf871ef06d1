// Owns features that change cells: the row goes to its new cell, and word of it stays where its id says it was made.

import { type SQL, sql } from 'drizzle-orm'
import type { Statement } from '../../database/database.ts'
import { movedFeatureTable } from '../../database/tables.ts'
import { fillTemplate, templateOf } from '../../database/template.ts'
import {
  CELL_COLUMN,
  type Collection,
  cellColumn,
  cellsOfStatement,
  tableOf,
} from '../collections/collection.ts'

const { schemaName, tableName, cell: homeCell, id: movedId, movedTo } = movedFeatureTable
const isOf = ({ schema, table }: Collection) => sql`${schemaName} = ${schema} and ${tableName} = ${table}`
const placeholder = (name: string) => sql`${sql.placeholder(name)}`

/**
 * One row with the cell where a feature is now, or none where there is no such feature. Home and the word of who
 * has left it lie together: both are read at one moment, and exactly one of them knows.
 * @param home the cell that its id begins with
 */
export function compileWhereabouts(collection: Collection, id: string, home: number): Statement {
  const template = templateOf(
    `whereabouts ${collection.version}`,
    () => sql`select ${cellColumn} from ${tableOf(collection)}
      where ${cellColumn} = ${placeholder('home')} and ${sql.identifier(collection.idColumn!.name)} = ${placeholder('id')}
      union all select ${movedTo} from ${movedFeatureTable}
      where ${homeCell} = ${placeholder('home')} and ${movedId} = ${placeholder('id')} and ${isOf(collection)}`,
  )
  return fillTemplate(template, { id, home }, cellsOfStatement(collection, home))
}

/**
 * One row with the cell where a feature is, if there is one, as its word says: home where it has left none, which
 * then is left. Until the transaction ends nobody else can claim it: who moves a feature, or removes it away from
 * home, begins so, and all wait in line for one row of one node.
 */
export function compileClaim(collection: Collection, id: string, home: number): Statement {
  const template = templateOf(`claim ${collection.version}`, () => {
    const { schema, table } = collection
    return sql`insert into ${movedFeatureTable} as word
        (schema_name, table_name, ${sql.identifier(CELL_COLUMN)}, id, moved_to)
      values (${schema}, ${table}, ${placeholder('home')}, ${placeholder('id')}, ${placeholder('home')})
      on conflict (cell, id, table_name, schema_name) do update set moved_to = word.moved_to returning moved_to`
  })
  return fillTemplate(template, { id, home }, cellsOfStatement(collection, home))
}

/** Says where a feature is that is not at home. */
export function compileForward(collection: Collection, id: string, home: number, to: number): Statement {
  const template = templateOf(`forward ${collection.version}`, () => {
    const { schema, table } = collection
    return sql`insert into ${movedFeatureTable}
        (schema_name, table_name, ${sql.identifier(CELL_COLUMN)}, id, moved_to)
      values (${schema}, ${table}, ${placeholder('home')}, ${placeholder('id')}, ${placeholder('to')})
      on conflict (cell, id, table_name, schema_name) do update set moved_to = excluded.moved_to`
  })
  return fillTemplate(template, { id, home, to }, cellsOfStatement(collection, home))
}

/** For a feature that is at home again, or nowhere any more. */
export function compileForget(collection: Collection, id: string, home: number): Statement {
  const template = templateOf(
    `forget ${collection.version}`,
    () => sql`delete from ${movedFeatureTable}
      where ${homeCell} = ${placeholder('home')} and ${movedId} = ${placeholder('id')} and ${isOf(collection)}`,
  )
  return fillTemplate(template, { id, home }, cellsOfStatement(collection, home))
}

/** What becomes of a column in a row that is moved. */
export type Assignment = { readonly name: string; readonly value: SQL }

/**
 * Takes a row from its cell: one row with the texts of all columns that stay as they are, or none.
 * @param where the row, and the condition of the change
 */
export function departure(collection: Collection, kept: readonly Assignment[], where: SQL): SQL {
  const values = kept.map(({ value }) => sql`(${value})::text`)
  return sql`delete from ${tableOf(collection)} ${where} returning ${values.length > 0 ? sql.join(values, sql.raw(', ')) : sql`1`}`
}
