// Owns the step from drizzle's composed SQL to a statement: compiled once per shape, filled per request.

import { MAX_LIFETIME_S } from './pool.ts'
import { fillPlaceholders, type SQL, writeSql } from './sql.ts'
import type { Statement } from './statement.ts'

/** A statement whose values are named and not yet known. */
export type Template = { readonly name?: string; readonly text: string; readonly parameters: unknown[] }

/** Most templates that are kept without being prepared; this limits the memory that unusual requests can take. */
const MAX_TEMPLATES = 1_000
/** Longest shape whose template is kept, in UTF-16 units: filters can be of any form, and seldom come again if they are long. */
const MAX_KEPT_SHAPE = 8_192
/**
 * Most templates that are prepared. A prepared statement stays on its connection for as long as that lives. A template is
 * therefore replaced by another only if it has not been used for that long, so that no connection has more than twice as
 * many prepared statements.
 */
const MAX_PREPARED = 200
/** Most prepared templates that concern a single shard. A connection has only those of its own node's shards. */
const MAX_PREPARED_OF_SHARDS = 1_000

/**
 * Returns the template of a shape; `compose` runs only if the shape is not known yet.
 * @param shape everything that the text depends on: two requests of one shape differ only in their values
 */
type TemplateOf = (shape: string, compose: () => SQL) => Template

export const templateOf = keepTemplates('tessera', MAX_PREPARED)
export const shardTemplateOf = keepTemplates('tessera_shard', MAX_PREPARED_OF_SHARDS)

function keepTemplates(prefix: string, maxPrepared: number): TemplateOf {
  /** Both maps are in the order of last use. */
  const prepared = new Map<string, { readonly template: Template; usedAt: number }>()
  const others = new Map<string, Template>()
  let names = 0
  function makeRoom(now: number): boolean {
    if (prepared.size < maxPrepared) return true
    const [shape, { usedAt }] = prepared.entries().next().value!
    return now - usedAt > MAX_LIFETIME_S * 1_000 && prepared.delete(shape)
  }
  return (shape, compose) => {
    if (shape.length > MAX_KEPT_SHAPE) return composeOnce(compose())
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

/** Returns the template of a statement that is not expected again; it is neither kept nor prepared. */
export function composeOnce(composed: SQL): Template {
  const { sql: text, params } = writeSql(composed)
  return { text, parameters: params }
}

/** Returns the statement of composed SQL that has no placeholders and already contains its values. */
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
