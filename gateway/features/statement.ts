// Owns the step from drizzle's composed SQL to a statement: compiled once per shape, filled per request.

import { fillPlaceholders, type SQL } from 'drizzle-orm'
import { PgDialect } from 'drizzle-orm/pg-core'
import type { Statement } from '../database/database.ts'
import { MAX_LIFETIME_S } from '../database/pool.ts'

const dialect = new PgDialect()

/** A statement whose values are named and not yet known. */
export type Template = { readonly name?: string; readonly text: string; readonly parameters: unknown[] }

/** How many shapes are kept, of those used last: a brake on what odd requests can make us remember. */
const MAX_TEMPLATES = 1_000
/** How many are prepared in the time that a connection lives, where PostgreSQL keeps them for as long. */
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
  /** The one used last is the last. */
  const templates = new Map<string, Template>()
  /** When the latest names were given, of performance.now(). */
  const namedAt: number[] = []
  let names = 0
  const name = () => {
    if (namedAt.length === maxPrepared) {
      if (performance.now() - namedAt[0]! < MAX_LIFETIME_S * 1_000) return {}
      namedAt.shift()
    }
    namedAt.push(performance.now())
    return { name: `${prefix}_${++names}` }
  }
  return (shape, compose) => {
    const known = templates.get(shape)
    const template = known?.name ? known : { ...(known ?? composeOnce(compose())), ...name() }
    templates.delete(shape)
    templates.set(shape, template)
    if (templates.size > MAX_TEMPLATES) templates.delete(templates.keys().next().value!)
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
