// Owns the step from drizzle's composed SQL to a statement: compiled once per shape, filled per request.

import { fillPlaceholders, type SQL } from 'drizzle-orm'
import { PgDialect } from 'drizzle-orm/pg-core'
import type { Statement } from '../database/database.ts'

const dialect = new PgDialect()

/** A statement whose values are named and not yet known. */
export type Template = { readonly name?: string; readonly text: string; readonly parameters: unknown[] }

/** How many shapes are kept: a brake on what odd requests can make us remember. */
const MAX_TEMPLATES = 1_000
/** How many of them are prepared on each connection, where PostgreSQL keeps them for as long as it lives. */
const MAX_PREPARED = 200
/** The same of those that are about one shard: a connection has those of its own node's shards alone. */
const MAX_PREPARED_OF_SHARDS = 1_000

/**
 * The template of a shape; `compose` runs only where it is not known yet.
 * @param shape says everything that the text depends on: two requests of one shape differ in values alone
 */
type TemplateOf = (shape: string, compose: () => SQL) => Template

export const templateOf = keepTemplates('tessera', MAX_PREPARED)
export const shardTemplateOf = keepTemplates('tessera_shard', MAX_PREPARED_OF_SHARDS)

function keepTemplates(prefix: string, maxPrepared: number): TemplateOf {
  const templates = new Map<string, Template>()
  let preparedCount = 0
  return (shape, compose) => {
    const known = templates.get(shape)
    if (known) return known
    const isPrepared = preparedCount < maxPrepared
    const template = {
      ...(isPrepared ? { name: `${prefix}_${++preparedCount}` } : {}),
      ...composeOnce(compose()),
    }
    if (templates.size >= MAX_TEMPLATES) templates.delete(templates.keys().next().value as string)
    templates.set(shape, template)
    return template
  }
}

/** The template of a statement that is not expected again: neither kept nor prepared. */
export function composeOnce(composed: SQL): Template {
  const { sql: text, params } = dialect.sqlToQuery(composed)
  return { text, parameters: params }
}

/** A statement without placeholders, its values already in it. */
export function statementOf(composed: SQL): Statement {
  const { text, parameters } = composeOnce(composed)
  return { text, values: parameters }
}

/**
 * @param cells see Statement
 * @throws where a placeholder of the template has no value
 */
export function fillTemplate(
  { name, text, parameters }: Template,
  values: Record<string, unknown>,
  cells?: readonly number[],
): Statement {
  return { ...(name ? { name } : {}), text, values: fillPlaceholders(parameters, values), cells }
}
