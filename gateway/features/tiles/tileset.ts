// Owns what tiles say about their layers: the properties that features have in them, and what they are drawn as.

import type { Collection } from '../collections/collection.ts'
import { schemaOf } from '../collections/schema.ts'
import type { Column } from '../values/column.ts'

export type LayerProperty = {
  readonly type: 'integer' | 'number' | 'boolean' | 'string'
  readonly title?: string
  readonly description?: string
}

/** Returns the type that a column's values have in tiles, which have no words for most types. */
function typeOf({ kind, type }: Column): LayerProperty['type'] {
  if (kind === 'integer' || kind === 'boolean') return kind
  return kind === 'number' && type !== 'numeric' ? 'number' : 'string'
}

/** Returns the properties of a layer, with its id if features have one, in order. */
export function layerProperties(collection: Collection): Readonly<Record<string, LayerProperty>> {
  const { idColumn, properties } = collection
  const described = schemaOf(collection, 'schema', '').properties
  return Object.fromEntries(
    [...(idColumn ? [idColumn] : []), ...properties].map((column) => {
      const { title, description } = described[column.name] ?? {}
      return [
        column.name,
        {
          type: typeOf(column),
          ...(title === undefined ? {} : { title }),
          ...(description === undefined ? {} : { description }),
        },
      ]
    }),
  )
}

/** Returns 0 for points, 1 for lines, 2 for polygons; undefined if features can have any of these. */
export function dimensionOf({ geometry: { type } }: Collection): 0 | 1 | 2 | undefined {
  if (/POINT/.test(type)) return 0
  if (/LINESTRING|^(COMPOUND|MULTI)?CURVE(Z|M|ZM)?$|CIRCULARSTRING/.test(type)) return 1
  return /POLYGON|SURFACE|TRIANGLE|TIN/.test(type) ? 2 : undefined
}
