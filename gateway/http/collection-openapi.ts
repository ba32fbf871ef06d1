// Owns the OpenAPI document of one collection: the paths of the API's own document that concern it, with its
// properties as parameters and members.

import { type Capabilities, type Collection, isFilterable } from '../features/collections/collection.ts'
import { type PropertySchema, schemaOf } from '../features/collections/schema.ts'
import { isPlainName } from '../features/filter/expression.ts'
import { DRAFT_LANGUAGE, FILTER_LANGUAGES } from '../features/filter/filter.ts'
import { collectionUrl } from './feature-response.ts'

type Schema = Record<string, unknown>
type Parameter = { in: string; name: string; schema?: object }
type Operation = { operationId?: string; parameters?: Parameter[] }
type Document = {
  readonly info: object
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> }
}

const COLLECTION = '/collections/{collectionId}'
const ITEMS = `${COLLECTION}/items`
/** Paths of which every property is a parameter. */
export const SELECTING_PATHS: readonly string[] = [
  ITEMS,
  `${COLLECTION}/tiles/{tileMatrixSetId}/{tileMatrix}/{tileRow}/{tileCol}`,
]
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
  const { info, components, ...rest } = document as Document
  return {
    ...rest,
    info: { ...info, title: collection.title },
    servers: [{ url: base }],
    paths: pathsOf(document as Document, collection),
    components: {
      ...components,
      schemas: { ...components.schemas, ...membersOf(components.schemas, collection) },
    },
  }
}

/** Returns the paths of the collection, with its properties as parameters. */
function pathsOf({ paths }: Document, collection: Collection): Document['paths'] {
  const own = Object.entries(paths).filter(([path]) => path.startsWith(COLLECTION))
  const named = ({ in: place, name }: { in: string; name: string }) =>
    !(place === 'path' && name === 'collectionId')
  const complete = (path: string, operation: Operation): Operation => {
    const kept = (operation.parameters ?? []).filter(named)
    if (!SELECTING_PATHS.includes(path)) return { ...operation, parameters: kept }
    const taken = new Set(kept.map(({ name }) => name))
    return {
      ...operation,
      parameters: kept.flatMap((parameter) =>
        parameter.name === ANY_PROPERTY ? parametersOf(collection, taken) : [parameter],
      ),
    }
  }
  return Object.fromEntries(
    own.map(([path, methods]) => [
      path.replace(COLLECTION, collectionUrl('', collection)),
      Object.fromEntries(
        Object.entries(methods)
          .filter(([method]) => !(method in RIGHTS) || collection.capabilities?.[RIGHTS[method]!])
          .map(([method, operation]) => [method, complete(path, operation)]),
      ),
    ]),
  )
}

/** Most collections whose items have a path of their own: it takes some ten kilobytes. */
const MAX_LISTED = 100

/**
 * Returns the document of the API with the items of each collection, because GDAL sends a filter only for properties that
 * are parameters there. It writes names without quotes, and compares any property with null; a collection with one that
 * cannot be named so is left out.
 * @param document of the whole API
 */
export function listCollections(document: object, collections: readonly Collection[]): object {
  const { paths } = document as Document
  const listed = collections
    .filter(({ properties }) => properties.every((one) => isPlainName(one.name) && isFilterable(one)))
    .slice(0, MAX_LISTED)
    .map((collection): [string, Record<string, Operation>] => {
      const path = ITEMS.replace(COLLECTION, collectionUrl('', collection))
      const methods = Object.entries(pathsOf(document as Document, collection)[path]!)
      return [
        path,
        Object.fromEntries(
          methods.map(([method, operation]) => [
            method,
            {
              ...operation,
              operationId: `${operation.operationId}.${collection.id}`,
              parameters: operation.parameters!.map(withDraft),
            },
          ]),
        ),
      ]
    })
  return { ...document, paths: { ...Object.fromEntries(listed), ...paths } }
}

/** GDAL knows the language of filters by its name in drafts. */
const withDraft = (parameter: Parameter): Parameter =>
  parameter.name === 'filter-lang'
    ? { ...parameter, schema: { ...parameter.schema, enum: [...FILTER_LANGUAGES, DRAFT_LANGUAGE] } }
    : parameter

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
