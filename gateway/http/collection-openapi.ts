// Owns the OpenAPI document of one collection: the paths of the API's own document that concern it, with its
// properties as parameters and members.

import { type Capabilities, type Collection, isFilterable } from '../features/collections/collection.ts'
import { type PropertySchema, schemaOf } from '../features/collections/schema.ts'
import { isPlainName } from '../features/filter/expression.ts'
import { DRAFT_LANGUAGE, FILTER_LANGUAGES } from '../features/filter/filter.ts'
import { collectionUrl } from './feature-response.ts'

type Schema = Record<string, unknown>
type Parameter = { in: string; name: string; schema?: object }
type Operation = {
  operationId?: string
  summary?: string
  security?: object
  parameters?: Parameter[]
  requestBody?: object
  responses?: Readonly<Record<string, object>>
}
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

/** Most collections whose items have a path of their own: each takes one to seven kilobytes. */
const MAX_LISTED = 1_000

/**
 * Returns the function that describes the API with the items of each collection, because GDAL sends a filter only for
 * properties that are parameters there. It writes names without quotes, and compares any property with null; a collection
 * with one that cannot be named so is left out. What the paths have in common is referred to. The text is made again only
 * for other collections.
 * @param document of the whole API
 */
export function makeDescription(
  document: object,
): (collections: readonly Collection[], base: string) => string {
  const { servers: _, ...rest } = document as Document & { servers: unknown }
  const { shared, refer } = shareOperations(rest)
  let last: { readonly collections: readonly Collection[]; readonly text: string } | undefined
  return (collections, base) => {
    if (
      last?.collections.length !== collections.length ||
      last.collections.some((one, at) => one !== collections[at])
    ) {
      const listed = collections
        .filter(({ properties }) => properties.every((one) => isPlainName(one.name) && isFilterable(one)))
        .slice(0, MAX_LISTED)
        .map((one): [string, object] => [ITEMS.replace(COLLECTION, collectionUrl('', one)), refer(one)])
      const described = {
        ...rest,
        paths: { ...Object.fromEntries(listed), ...rest.paths },
        components: { ...rest.components, ...shared },
      }
      last = { collections, text: JSON.stringify(described) }
    }
    return `${last.text.slice(0, -1)},"servers":${JSON.stringify([{ url: base }])}}`
  }
}

/**
 * Returns the parts of the operations on items, by their names in the document, and the operations of a collection that refer
 * to them.
 */
function shareOperations({ paths }: Document) {
  const parts = { parameters: {}, requestBodies: {}, responses: {} } as Record<string, Record<string, object>>
  const share = (kind: string, name: string, part: object) => {
    parts[kind]![name] = part
    return { $ref: `#/components/${kind}/${name}` }
  }
  const methods = Object.entries(paths[ITEMS]!).map(([method, operation]) => {
    const { operationId, summary, security, parameters = [], requestBody, responses = {} } = operation
    const own = parameters.filter(({ in: place, name }) => place !== 'path' && name !== ANY_PROPERTY)
    const referring = {
      ...(requestBody ? { requestBody: share('requestBodies', method, requestBody) } : {}),
      responses: Object.fromEntries(
        Object.entries(responses).map(([status, response]) => [
          status,
          share('responses', `${method}.${status}`, response),
        ]),
      ),
    }
    return {
      method,
      operationId,
      others: { summary, ...(security ? { security } : {}) },
      referring,
      taken: new Set(own.map(({ name }) => name)),
      given: own.map((one) => share('parameters', `${method}.${one.name}`, withDraft(one))),
      isSelecting: parameters.some(({ name }) => name === ANY_PROPERTY),
    }
  })
  const refer = (collection: Collection) =>
    Object.fromEntries(
      methods
        .filter(({ method }) => !(method in RIGHTS) || collection.capabilities?.[RIGHTS[method]!])
        .map(({ method, operationId, others, referring, taken, given, isSelecting }) => [
          method,
          {
            operationId: `${operationId}.${inOperationId(collection.id)}`,
            ...others,
            parameters: [
              ...given,
              ...(isSelecting ? parametersOf(collection, taken).map(withoutDescription) : []),
            ],
            ...referring,
          },
        ]),
    )
  return { shared: parts, refer }
}

/** An id of an operation becomes the name of a method in clients, and has no percent signs. */
const inOperationId = (id: string) => encodeURIComponent(id).replaceAll('~', '%7E').replaceAll('%', '~')

/** What a property means is in the document of its collection. */
const withoutDescription = ({ name, schema }: { name: string; schema: Schema }) => ({
  name,
  in: 'query',
  schema: { type: schema.type },
})

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
