// Owns the constructors of the schemas of routes.

import type * as TypeBox from 'typebox'

type Schema = Record<string, unknown>

/** Properties that may be missing; a schema itself does not say so. */
const optional = new WeakSet<object>()

const make =
  (own: Schema) =>
  (options: Schema = {}): Schema => ({ ...own, ...options })

/**
 * Makes JSON Schemas with the types of typebox, from which the types of requests follow. The package itself is not loaded: it
 * computes types at run time too, in 370 files that took a sixth of the start.
 */
export const Type = {
  String: make({ type: 'string' }),
  Number: make({ type: 'number' }),
  Integer: make({ type: 'integer' }),
  Boolean: make({ type: 'boolean' }),
  Unknown: make({}),
  Unsafe: make({}),
  Literal: (value: unknown, options?: Schema) => make({ type: typeof value, const: value })(options),
  Enum: (values: readonly unknown[], options?: Schema) => make({ enum: values })(options),
  Union: (schemas: readonly Schema[], options?: Schema) => make({ anyOf: schemas })(options),
  Ref: (name: string, options?: Schema) => make({ $ref: name })(options),
  Array: (items: Schema, options?: Schema) => make({ type: 'array', items })(options),
  Object(properties: Readonly<Record<string, Schema>>, options?: Schema) {
    const required = Object.keys(properties).filter((name) => !optional.has(properties[name]!))
    return make({ type: 'object', ...(required.length > 0 ? { required } : {}), properties })(options)
  },
  Optional(schema: Schema) {
    const copy = { ...schema }
    optional.add(copy)
    return copy
  },
} as unknown as Pick<
  typeof TypeBox.Type,
  | 'String'
  | 'Number'
  | 'Integer'
  | 'Boolean'
  | 'Unknown'
  | 'Unsafe'
  | 'Literal'
  | 'Enum'
  | 'Union'
  | 'Ref'
  | 'Array'
  | 'Object'
  | 'Optional'
>
