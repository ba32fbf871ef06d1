// Owns the types of columns that another server declares for the properties of its features.

import { columnTypeOf } from '../../changes/collection-definition.ts'
import { isObject } from '../../values/exact-json.ts'
import { type ColumnType, parseColumnType } from '../column-type.ts'

/**
 * Reads a JSON Schema: of all properties (Part 5), or of those that a filter may name (Part 3). Servers write `string`
 * for dates and `number` for integers in the latter, so that there these two alone declare nothing.
 */
export function typesOfSchema(schema: unknown, aspect: 'schema' | 'queryables'): Map<string, ColumnType> {
  const types = new Map<string, ColumnType>()
  const properties = isObject(schema) && isObject(schema.properties) ? schema.properties : {}
  for (const [name, property] of Object.entries(properties)) {
    const type = isObject(property) ? typeOf(property.type, property.format, aspect) : undefined
    if (type) types.set(name, type)
  }
  return types
}

/** Types that say too little if they have no format. */
const VAGUE: readonly unknown[] = ['string', 'number']

function typeOf(given: unknown, format: unknown, aspect: 'schema' | 'queryables'): ColumnType | undefined {
  const kinds = (Array.isArray(given) ? given : [given]).filter((kind) => kind !== 'null')
  if (kinds.length > 1) return 'jsonb'
  const [kind] = kinds
  if (kind === 'array') return 'jsonb'
  if (typeof kind !== 'string') return undefined
  const found = typeof format === 'string' ? columnTypeOf(kind, format) : undefined
  if (found === undefined && aspect === 'queryables' && VAGUE.includes(kind)) return undefined
  return parseColumnType(found ?? columnTypeOf(kind) ?? '')
}
