// Owns the OpenAPI document of one collection: the paths of the API's own document that concern it, with its
// properties as parameters and members.

import type { Capabilities, Collection } from '../features/collections/collection.ts'
import { type PropertySchema, schemaOf } from '../features/collections/schema.ts'
import { collectionUrl } from './feature-response.ts'

type Schema = Record<string, unknown>
type Operation = { parameters?: { in: string; name: string }[] }
type Document = {
  readonly info: object
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> }
}

const COLLECTION = '/collections/{collectionId}'
const ITEMS = `${COLLECTION}/items`
/** Name of the parameter that stands for all properties in the document of the whole API. */
export const ANY_PROPERTY = 'property'

/** Right that a method of items needs; others can always be used. */
const RIGHTS: Readonly<Record<string, keyof Capabilities>> = {
  post: 'canCreate',
  put: 'canUpdate',
  patch: 'canUpdate',
  delete: 'canRemove',
}

/** @param document of the whole API */
export function openapiOf(document: object, collection: Collection, base: string): object {
  const { info, paths, components, ...rest } = document as Document
  const own = Object.entries(paths).filter(([path]) => path.startsWith(COLLECTION))
  const named = ({ in: place, name }: { in: string; name: string }) =>
    !(place === 'path' && name === 'collectionId')
  const complete = (path: string, operation: Operation): Operation => {
    const kept = (operation.parameters ?? []).filter(named)
    if (path !== ITEMS) return { ...operation, parameters: kept }
    const taken = new Set(kept.map(({ name }) => name))
    return {
      ...operation,
      parameters: kept.flatMap((parameter) =>
        parameter.name === ANY_PROPERTY ? parametersOf(collection, taken) : [parameter],
      ),
    }
  }
  return {
    ...rest,
    info: { ...info, title: collection.title },
    servers: [{ url: base }],
    paths: Object.fromEntries(
      own.map(([path, methods]) => [
        path.replace(COLLECTION, collectionUrl('', collection)),
        Object.fromEntries(
          Object.entries(methods)
            .filter(([method]) => !(method in RIGHTS) || collection.capabilities?.[RIGHTS[method]!])
            .map(([method, operation]) => [method, complete(path, operation)]),
        ),
      ]),
    ),
    components: {
      ...components,
      schemas: { ...components.schemas, ...membersOf(components.schemas, collection) },
    },
  }
}

/** Returns a parameter for each property that has a simple value; a name that is taken means something else. */
const parametersOf = (collection: Collection, taken: ReadonlySet<string>) =>
  Object.entries(schemaOf(collection, 'queryables', '').properties)
    .filter(([name, { type }]) => typeof type === 'string' && type !== 'array' && !taken.has(name))
    .map(([name, schema]) => ({
      name,
      in: 'query',
      required: false,
      description:
        [schema.title, schema.description].filter(Boolean).join(': ') || `Features whose ${name} is equal.`,
      style: 'form',
      explode: false,
      schema: inOpenapi(schema),
    }))

function membersOf(
  schemas: Readonly<Record<string, Schema>>,
  collection: Collection,
): Record<string, Schema> {
  const { properties, required } = schemaOf(collection, 'schema', '')
  const members = (isChange: boolean) =>
    Object.fromEntries(
      collection.properties
        .filter(({ name }) => !isChange || collection.capabilities?.columns.has(name))
        .map(({ name, isNullable }) => {
          const schema = inOpenapi(properties[name]!)
          // A schema without a type includes null, and must not say so.
          return [name, isNullable && schema.type !== undefined ? { ...schema, nullable: true } : schema]
        }),
    )
  const withProperties = (schema: string, own: Schema) => ({
    ...schemas[schema],
    properties: { ...(schemas[schema]!.properties as Schema), properties: { type: 'object', ...own } },
  })
  return {
    Feature: withProperties('Feature', { properties: members(false) }),
    NewFeature: withProperties('NewFeature', {
      properties: members(true),
      ...(required ? { required } : {}),
      additionalProperties: false,
    }),
    FeaturePatch: withProperties('FeaturePatch', { properties: members(true), additionalProperties: false }),
  }
}

/** Returns a property's schema in the dialect of OpenAPI 3.0: one type, or none, and bounds that are told apart by a flag. */
function inOpenapi({
  type,
  items,
  exclusiveMinimum,
  exclusiveMaximum,
  'x-ogc-propertySeq': _,
  ...rest
}: PropertySchema): Schema {
  return {
    ...rest,
    ...(typeof type === 'string' ? { type } : {}),
    ...(items ? { items: inOpenapi(items) } : {}),
    ...(exclusiveMinimum === undefined ? {} : { minimum: exclusiveMinimum, exclusiveMinimum: true }),
    ...(exclusiveMaximum === undefined ? {} : { maximum: exclusiveMaximum, exclusiveMaximum: true }),
  }
}
