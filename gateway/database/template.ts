// Owns the step from drizzle's composed SQL to a statement: compiled once per shape, filled per request.

import { fillPlaceholders, type SQL } from 'drizzle-orm'
import { PgDialect } from 'drizzle-orm/pg-core'
import { MAX_LIFETIME_S } from './pool.ts'
import type { Statement } from './statement.ts'

const dialect = new PgDialect()

/** A statement whose values are named and not yet known. */
export type Template = { readonly name?: string; readonly text: string; readonly parameters: unknown[] }

/** How many shapes are kept that are not prepared: a brake on what odd requests can make us remember. */
const MAX_TEMPLATES = 1_000
/**
 * How many are prepared, on each connection for as long as it lives. One makes room for another when it has not been used
 * for that long, so that no connection holds more than twice as many.
 */
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
  /** Both in the order of their last use. */
  const prepared = new Map<string, { readonly template: Template; usedAt: number }>()
  const others = new Map<string, Template>()
  let names = 0
  function makeRoom(now: number): boolean {
    if (prepared.size < maxPrepared) return true
    const [shape, { usedAt }] = prepared.entries().next().value!
    return now - usedAt > MAX_LIFETIME_S * 1_000 && prepared.delete(shape)
  }
  return (shape, compose) => {
    const now = performance.now()
    const known = prepared.get(shape)
    if (known) {
      prepared.delete(shape)
      prepared.set(shape, known)
      known.usedAt = now
      return known.template
    }
    const template = others.get(shape) ?? composeOnce(compose())
    others.delete(shape)
    if (makeRoom(now)) {
      const named = { name: `${prefix}_${++names}`, ...template }
      prepared.set(shape, { template: named, usedAt: now })
      return named
    }
    others.set(shape, template)
    if (others.size > MAX_TEMPLATES) others.delete(others.keys().next().value!)
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
 * Returns the statement of a template.
 * @param values by the names of the placeholders; a list if those are numbers
 * @param cells see Statement
 * @throws if a placeholder of the template has no value
 */
export function fillTemplate(
  { name, text, parameters }: Template,
  values: Readonly<Record<string, unknown>> | readonly unknown[],
  cells?: readonly number[],
): Statement {
  const filled = fillPlaceholders(parameters, values as Record<string, unknown>)
  return { ...(name ? { name } : {}), text, values: filled, cells }
}
