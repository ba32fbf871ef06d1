// Owns the schemas that several routes share: they validate, type, and appear in the OpenAPI document.

import type { TSchema } from 'typebox'
import { GEOMETRY_TYPES } from '../features/values/geometry.ts'
import { DOCUMENT_FORMATS, type Formats, JSON_FORMAT } from './negotiate.ts'
import { Type } from './type.ts'

/** Schemas that have names in the document. */
export const Link = Type.Object(
  {
    href: Type.String({ format: 'uri' }),
    rel: Type.String(),
    type: Type.Optional(Type.String()),
    title: Type.Optional(Type.String()),
    hreflang: Type.Optional(Type.String()),
  },
  { $id: 'Link' },
)

/** A link whose address may have variables in braces to fill in. */
export const LinkTemplate = Type.Object(
  {
    href: Type.String(),
    rel: Type.String(),
    type: Type.Optional(Type.String()),
    title: Type.Optional(Type.String()),
    templated: Type.Optional(Type.Boolean()),
  },
  { $id: 'LinkTemplate' },
)

export const Fault = Type.Object(
  {
    pointer: Type.String({ description: 'JSON pointer to the part of the body that is at fault.' }),
    detail: Type.String({ description: 'What is wrong, or what would be right.' }),
    line: Type.Optional(
      Type.Integer({ description: 'Line on which the feature begins, if the body is a list of lines.' }),
    ),
  },
  { $id: 'Fault' },
)

export const Problem = Type.Object(
  {
    type: Type.String({ description: 'Identifies the kind of problem.' }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String({ description: 'What is wrong, and what would be right.' }),
    code: Type.String(),
    requestId: Type.String({ description: 'Id of this request in the log.' }),
    parameter: Type.Optional(Type.String({ description: 'The parameter that is at fault.' })),
    example: Type.Optional(Type.String({ description: 'A value that would be right.' })),
    errors: Type.Optional(
      Type.Array(Type.Ref('Fault#'), {
        description: 'The faults of the body, at most 20: their place (a JSON pointer), and what is wrong.',
      }),
    ),
  },
  { $id: 'Problem', additionalProperties: true, description: 'RFC 9457' },
)

export const Geometry = Type.Object(
  {
    type: Type.Enum([...GEOMETRY_TYPES], { type: 'string' }),
    coordinates: Type.Optional(Type.Array(Type.Unknown())),
    geometries: Type.Optional(Type.Array(Type.Unknown())),
  },
  {
    $id: 'Geometry',
    additionalProperties: true,
    nullable: true,
    description:
      'RFC 7946; null if the feature has no geometry. Coordinates are in the system that the header Content-Crs names.',
  },
)

const featureMembers = {
  type: Type.Literal('Feature'),
  id: Type.Optional(Type.Union([Type.String(), Type.Number()])),
  geometry: Type.Ref('Geometry#'),
  properties: Type.Object({}, { additionalProperties: true }),
}

export const Feature = Type.Object(
  { ...featureMembers, links: Type.Optional(Type.Array(Type.Ref('Link#'))) },
  { $id: 'Feature' },
)

export const FeatureCollection = Type.Object(
  {
    type: Type.Literal('FeatureCollection'),
    features: Type.Array(Type.Ref('Feature#')),
    numberReturned: Type.Integer({ minimum: 0 }),
    numberMatched: Type.Optional(
      Type.Integer({ minimum: 0, description: 'Left out if counting would cost too much.' }),
    ),
    timeStamp: Type.String({ format: 'date-time' }),
    links: Type.Array(Type.Ref('Link#')),
  },
  { $id: 'FeatureCollection' },
)

const Distribution = Type.Object(
  {
    by: Type.Enum(['cell', 'column', 'reference'], {
      type: 'string',
      description:
        'What decides on which node a feature is stored: its cell, the value of a column, or nothing, because all nodes store it (reference).',
    }),
    column: Type.Optional(Type.String({ description: 'The column, if `by` is `column`.' })),
    level: Type.Optional(
      Type.Integer({
        description: 'The level of the cells: the globe has 2^level columns and as many rows.',
      }),
    ),
  },
  { description: 'How features are grouped, and distributed if there are several nodes.' },
)

export const Collection = Type.Object(
  {
    id: Type.String(),
    title: Type.String(),
    description: Type.Optional(Type.String()),
    attribution: Type.Optional(Type.String()),
    itemType: Type.Literal('feature'),
    extent: Type.Object({
      spatial: Type.Optional(
        Type.Object({
          bbox: Type.Array(Type.Array(Type.Number(), { minItems: 4, maxItems: 6 }), { minItems: 1 }),
          crs: Type.String(),
        }),
      ),
      temporal: Type.Optional(
        Type.Object({
          interval: Type.Array(
            Type.Array(Type.Unsafe<string | null>({ type: 'string', nullable: true }), {
              minItems: 2,
              maxItems: 2,
            }),
            { minItems: 1 },
          ),
          trs: Type.String(),
        }),
      ),
    }),
    crs: Type.Array(Type.String(), {
      description:
        'Coordinate systems in which features are served, as URIs; `#/crs` stands for those that /collections lists.',
    }),
    storageCrs: Type.Optional(
      Type.String({
        format: 'uri',
        description:
          'The one of them that geometries are stored in; left out if each row has its own, or if it has no URI.',
      }),
    ),
    storageCrsCoordinateEpoch: Type.Optional(
      Type.Number({
        description: 'Year to which coordinates in storageCrs belong; left out if it is not known.',
      }),
    ),
    supportsNonAutogeneratedResourceIds: Type.Optional(
      Type.Boolean({
        description: 'True if PUT creates a feature whose id the client has chosen; left out otherwise.',
      }),
    ),
    distribution: Type.Optional(Distribution),
    links: Type.Array(Type.Ref('Link#')),
  },
  { $id: 'Collection' },
)

export const QueryPlan = Type.Object(
  {
    statement: Type.String({ description: 'The query, in SQL.' }),
    parameters: Type.Array(Type.Unsafe<unknown>({}), { description: 'The values bound to it.' }),
    statementOfShard: Type.Optional(
      Type.String({
        description:
          'The statement that is sent instead if the gateway can reach the node with the only shard that it needs; left out if there is none.',
      }),
    ),
    cells: Type.Optional(
      Type.Array(Type.Integer(), {
        description: 'The only cells that it reads; left out if it reads any.',
      }),
    ),
    nodeGroups: Type.Optional(
      Type.Array(Type.Integer(), { description: 'The node groups of Citus that have these cells.' }),
    ),
    tasks: Type.Optional(
      Type.Integer({
        description: 'How many queries of shards Citus makes of it; left out if Citus is not involved.',
      }),
    ),
    plan: Type.Unsafe<unknown>({ description: "PostgreSQL's plan, as from EXPLAIN (FORMAT JSON)." }),
  },
  { $id: 'QueryPlan' },
)

const listOf = (items: object, minItems = 0) => ({ type: 'array', items, minItems })
const position = { ...listOf({ type: 'number' }, 2), maxItems: 3 }
/** Coordinates of each type of geometry, from RFC 7946. */
const COORDINATES = {
  Point: position,
  MultiPoint: listOf(position),
  LineString: listOf(position, 2),
  MultiLineString: listOf(listOf(position, 2)),
  Polygon: listOf(listOf(position, 4)),
  MultiPolygon: listOf(listOf(listOf(position, 4))),
}
type GeometryBody =
  | { readonly type: keyof typeof COORDINATES; readonly coordinates: unknown[] }
  | { readonly type: 'GeometryCollection'; readonly geometries: GeometryBody[] }
const variantOf = (type: string, member: string, schema: object) => ({
  type: 'object',
  nullable: true,
  required: ['type', member],
  properties: { type: { type: 'string', enum: [type] }, [member]: schema },
})

/** The geometry of a body. A response's has fewer promises, so that clients need not tell its types apart. */
export const NewGeometry = Type.Unsafe<GeometryBody | null>({
  $id: 'NewGeometry',
  type: 'object',
  nullable: true,
  description:
    'RFC 7946, with longitudes and latitudes in degrees; null for none. A collection may take only one type, and closed rings.',
  anyOf: [
    ...Object.entries(COORDINATES).map(([type, coordinates]) => variantOf(type, 'coordinates', coordinates)),
    variantOf('GeometryCollection', 'geometries', listOf({ type: 'object', additionalProperties: true })),
  ],
})

const properties = Type.Object(
  {},
  { additionalProperties: true, description: "The collection's properties." },
)
const ownId = Type.Optional(Type.Union([Type.String(), Type.Number()]))

export const NewFeature = Type.Object(
  { type: Type.Literal('Feature'), id: ownId, geometry: Type.Ref('NewGeometry#'), properties },
  { $id: 'NewFeature', description: 'It has an id only if clients choose the ids.' },
)

export const NewFeatures = Type.Object(
  { type: Type.Literal('FeatureCollection'), features: Type.Array(Type.Ref('NewFeature#')) },
  { $id: 'NewFeatures', description: 'Features to store, all of them or none. It may be of any size.' },
)

export const FeatureLines = Type.String({
  $id: 'FeatureLines',
  description:
    'Features to store, all of them or none: GeoJSON, one on each line or after each record separator (RFC 8142); or CSV whose header has longitude and latitude.',
})

export const StoredFeatures = Type.Object(
  {
    numberStored: Type.Integer({ minimum: 0, description: 'Features that were created or replaced.' }),
    numberRefused: Type.Integer({
      minimum: 0,
      description: 'Features that were left out, with `handling=lenient`.',
    }),
    errors: Type.Array(Type.Ref('Fault#'), {
      description: 'Why features were left out: at most 100 faults of the first of them.',
    }),
  },
  { $id: 'StoredFeatures' },
)

export const ChangedFeatures = Type.Object(
  {
    numberMatched: Type.Integer({ minimum: 0, description: 'Features that meet the conditions.' }),
    numberChanged: Type.Integer({
      minimum: 0,
      description: 'Features that were changed or removed; 0 with `dry-run=true`.',
    }),
  },
  { $id: 'ChangedFeatures' },
)

export const PropertiesPatch = Type.Object(
  { type: Type.Optional(Type.Literal('Feature')), properties },
  {
    $id: 'PropertiesPatch',
    description:
      'RFC 7396: properties that each of the features gets; those that are left out stay as they are.',
  },
)

export const FeaturePatch = Type.Object(
  {
    type: Type.Optional(Type.Literal('Feature')),
    id: ownId,
    geometry: Type.Optional(Type.Ref('NewGeometry#')),
    properties: Type.Optional(properties),
  },
  {
    $id: 'FeaturePatch',
    description: 'RFC 7396: members that are left out stay as they are; null removes a value.',
  },
)

const describing = {
  id: Type.Optional(
    Type.String({ description: 'A name of your choice, by which an error names the action.' }),
  ),
  title: Type.Optional(Type.String()),
  description: Type.Optional(Type.String()),
}
const ofCollection = Type.String({ description: 'Id of the collection, as /collections lists it.' })
const selecting = {
  filter: Type.Unsafe<unknown>({
    description:
      'The features: `{"ids": ["1"]}`, or all that meet a condition in CQL2, as text or JSON; `true` selects all.',
    anyOf: [
      {
        type: 'object',
        required: ['ids'],
        properties: { ids: { type: 'array', items: { anyOf: [{ type: 'string' }, { type: 'number' }] } } },
      },
      { type: 'string' },
      { type: 'boolean' },
      { type: 'object', additionalProperties: true },
    ],
  }),
  'filter-lang': Type.Optional(Type.Enum(['cql2-json', 'cql2-text'], { type: 'string' })),
  'filter-crs': Type.Optional(Type.String()),
  'if-match': Type.Optional(
    Type.String({
      description:
        'ETag of the feature as it was read. If it has changed since, nothing is changed, and the answer is 412. `*` changes it whatever it is now.',
    }),
  ),
}
const newValues = Type.Optional(
  Type.Array(Type.Object({ name: Type.String(), value: Type.Unsafe<unknown>({}) }), {
    description: 'Names of properties, or `geometry`, and their new values.',
  }),
)
const actionOf = (name: string, $id: string, members: Readonly<Record<string, TSchema>>) =>
  Type.Object(
    {
      action: Type.Enum([name], { type: 'string' }),
      collection: ofCollection,
      ...describing,
      ...members,
    },
    { $id },
  )

export const InsertAction = actionOf('insert', 'InsertAction', {
  items: Type.Array(Type.Ref('NewFeature#')),
})
export const ReplaceAction = actionOf('replace', 'ReplaceAction', {
  properties: Type.Object({ feature: Type.Ref('NewFeature#') }),
  ...selecting,
})
export const UpdateAction = actionOf('update', 'UpdateAction', {
  properties: Type.Object({
    add: newValues,
    modify: newValues,
    delete: Type.Optional(Type.Array(Type.String(), { description: 'Names of properties to remove.' })),
  }),
  ...selecting,
})
export const DeleteAction = actionOf('delete', 'DeleteAction', selecting)

export const Transaction = Type.Object(
  {
    ...describing,
    semantic: Type.Optional(
      Type.Enum(['atomic'], { type: 'string', description: 'All actions take effect, or none.' }),
    ),
    transaction: Type.Array(
      Type.Unsafe<unknown>({
        oneOf: ['InsertAction#', 'ReplaceAction#', 'UpdateAction#', 'DeleteAction#'].map((name) =>
          Type.Ref(name),
        ),
      }),
    ),
  },
  { $id: 'Transaction' },
)

const urls = (description: string) =>
  Type.Optional(Type.Array(Type.String({ format: 'uri' }), { description }))
const total = Type.Integer({ minimum: 0 })
export const TransactionResult = Type.Object(
  {
    semantic: Type.Enum(['atomic'], { type: 'string' }),
    summary: Type.Object({
      totalInserted: total,
      totalUpdated: total,
      totalReplaced: total,
      totalDeleted: total,
    }),
    insertResults: urls('URLs of the new features, in the order of the actions.'),
    updateResults: urls('URLs of features that actions named; those that meet a condition are only counted.'),
    replaceResults: urls('URLs of the features that were replaced.'),
    deleteResults: urls('URLs that features had which actions named.'),
    entityTags: Type.Optional(
      Type.Object(
        {},
        {
          additionalProperties: Type.String(),
          description: 'Entity tag of each of these features after the transaction, by its URL.',
        },
      ),
    ),
    representations: Type.Optional(
      Type.Object(
        {},
        {
          additionalProperties: Type.Ref('Feature#'),
          description:
            'With `return=representation`, these features by their URLs, as far as they have 4 MiB together.',
        },
      ),
    ),
  },
  { $id: 'TransactionResult' },
)

const words = {
  title: Type.Optional(Type.String()),
  description: Type.Optional(Type.String()),
  license: Type.Optional(Type.String({ description: 'An SPDX identifier or a URL.' })),
  attribution: Type.Optional(Type.String()),
  crs: Type.Optional(
    Type.Array(Type.String(), {
      description:
        'Coordinate systems in which features are served and taken besides those of all collections, as codes or URIs.',
      example: ['EPSG:25832'],
    }),
  ),
}

export const NewCollection = Type.Object(
  {
    id: Type.String({ description: 'Up to 48 letters, digits, _ and -; it begins with a letter or _.' }),
    ...words,
    schema: Type.Object(
      {},
      {
        additionalProperties: true,
        description:
          'JSON Schema of the features: properties, one of which is the geometry, and those of them that are required.',
      },
    ),
    distribution: Type.Optional(
      Type.Object(
        {
          by: Type.Optional(Type.Enum(['cell', 'id', 'reference'], { type: 'string' })),
          level: Type.Optional(Type.Integer({ minimum: 0, maximum: 15 })),
        },
        {
          description:
            'What decides where features are stored: their cell (of this level), their id, or nothing, because every node has all of them.',
        },
      ),
    ),
  },
  { $id: 'NewCollection' },
)

export const CollectionPatch = Type.Object(
  {
    ...words,
    schema: Type.Optional(
      Type.Object(
        {},
        { additionalProperties: true, description: 'JSON Schema with the properties that are added.' },
      ),
    ),
  },
  {
    $id: 'CollectionPatch',
    description: 'RFC 7396: members that are left out stay as they are; null removes a text.',
  },
)

const rightsOfKey = {
  readOnly: Type.Boolean({ description: 'True for a key that changes nothing.' }),
  manage: Type.Boolean({ description: 'True for a key that may create, change and remove collections.' }),
  grant: Type.Boolean({ description: 'True for a key that may give keys and set rules.' }),
  collections: Type.Array(Type.String(), {
    description: 'Ids of the collections for which the key is; left out for all of them.',
  }),
  roles: Type.Array(Type.String(), {
    description:
      'Roles that rules of collections name; left out for a key that has rights of its own, whatever the rules are.',
  }),
}
const keyMembers = {
  id: Type.String({ description: 'The part of the key that may be shown.' }),
  name: Type.String(),
  readOnly: rightsOfKey.readOnly,
  manage: rightsOfKey.manage,
  grant: rightsOfKey.grant,
  collections: Type.Optional(rightsOfKey.collections),
  roles: Type.Optional(rightsOfKey.roles),
  created: Type.String({ format: 'date-time' }),
  createdBy: Type.Optional(
    Type.String({ description: 'The caller that created it; left out for the command line.' }),
  ),
  expires: Type.Optional(Type.String({ format: 'date-time', description: 'Left out if it never does.' })),
  lastUsed: Type.Optional(
    Type.String({
      format: 'date-time',
      description: 'When it was last used, to about five minutes; left out if it never was.',
    }),
  ),
}

export const ApiKey = Type.Object(keyMembers, { $id: 'ApiKey' })

export const CreatedApiKey = Type.Object(
  {
    ...keyMembers,
    key: Type.String({
      description:
        'The key itself, for `Authorization: Bearer`. It is in this answer alone, and stored nowhere.',
    }),
  },
  { $id: 'CreatedApiKey' },
)

const expires = Type.Optional(
  Type.String({
    description: 'Until when it is valid: so many hours or days from now, or a date or time.',
    example: '90d',
  }),
)

export const NewApiKey = Type.Object(
  {
    name: Type.String({ description: 'Tells keys apart for people.', maxLength: 200, example: 'field crew' }),
    readOnly: Type.Optional(rightsOfKey.readOnly),
    manage: Type.Optional(rightsOfKey.manage),
    grant: Type.Optional(rightsOfKey.grant),
    collections: Type.Optional(rightsOfKey.collections),
    roles: Type.Optional(rightsOfKey.roles),
    expires,
  },
  { $id: 'NewApiKey' },
)

export const KeyRotation = Type.Object(
  {
    overlap: Type.Optional(
      Type.String({ description: 'How long the old key stays valid; 7d without it.', example: '12h' }),
    ),
    expires,
  },
  { $id: 'KeyRotation' },
)

const group = (description: string) =>
  Type.Optional(
    Type.Unsafe<string[] | null>({
      type: 'array',
      items: { type: 'string' },
      nullable: true,
      description: `Roles of those who ${description}`,
    }),
  )

export const Rules = Type.Object(
  {
    readers: group('may see and read the collection; null for everybody.'),
    creators: group('may create features; null for the role tessera:write.'),
    editors: group('may change features; null for the role tessera:write.'),
    removers: group('may remove features; null for the role tessera:write.'),
  },
  {
    $id: 'Rules',
    description:
      'An empty list stands for no role at all. Keys without roles have rights whatever the rules are.',
  },
)

export const named: readonly TSchema[] = [
  Link,
  LinkTemplate,
  Fault,
  Problem,
  Geometry,
  Feature,
  FeatureCollection,
  Collection,
  QueryPlan,
  NewGeometry,
  NewFeature,
  NewFeatures,
  FeatureLines,
  StoredFeatures,
  ChangedFeatures,
  PropertiesPatch,
  FeaturePatch,
  NewCollection,
  CollectionPatch,
  ApiKey,
  CreatedApiKey,
  NewApiKey,
  KeyRotation,
  Rules,
  InsertAction,
  ReplaceAction,
  UpdateAction,
  DeleteAction,
  Transaction,
  TransactionResult,
]

/** Describes a response and its media types, for Fastify and the document. */
export const content = (description: string, types: readonly string[], schema: TSchema) => ({
  description,
  content: Object.fromEntries(types.map((type) => [type, { schema }])),
})

/** Adds an HTML page to a response, with the same content as its JSON. */
export const orPage = <T extends { content: object }>(response: T) => ({
  ...response,
  content: { ...response.content, 'text/html': { schema: Type.String() } },
})

export const problemOf = (description: string) =>
  orPage(content(description, ['application/problem+json'], Type.Ref('Problem#')))

const rateExceeded = problemOf(
  'The client has sent more requests, or got more bytes, than it may; Retry-After says when to try again.',
)
const addressTooLong = problemOf('A part of the path is longer than 1,000 characters.')

/** Problems of every read. */
export const problems = {
  400: problemOf('A parameter is unknown or has a wrong value.'),
  401: problemOf('The credentials are not valid.'),
  406: problemOf('None of the available formats is acceptable.'),
  414: addressTooLong,
  429: rateExceeded,
  500: problemOf('A bug, of which the log has the details, or a feature that is too large.'),
  503: problemOf('The database cannot answer at the moment; try again.'),
}
/** Problems of every change. */
export const changeProblems = {
  400: problemOf('The request, a parameter or a header is malformed.'),
  401: problemOf('A valid API key or token is needed.'),
  403: problemOf('This caller, this site or this role may not make the change.'),
  405: problemOf('The collection does not allow changes of this kind.'),
  408: problemOf('The body took too long to arrive.'),
  409: problemOf('The change conflicts with another feature; nothing has changed.'),
  412: problemOf('The feature is not the version that If-Match names; nothing has changed.'),
  413: problemOf('The body is too large.'),
  414: addressTooLong,
  415: problemOf('Bodies of this type are not accepted.'),
  422: problemOf('The feature is not valid: each fault is named; nothing has changed.'),
  429: rateExceeded,
  500: problemOf('A bug, of which the log has the details, or a feature that is too large.'),
  503: problemOf('The database cannot answer at the moment; the code shows whether to try again.'),
}
/** Problem of changes of features that exist. */
export const conditionMissing = problemOf(
  'The collection takes no change without If-Match or If-Unmodified-Since; nothing has changed.',
)
export const notFound = problemOf('There is no such collection or feature.')

/** Describes `f`, which chooses the format; without it, Accept decides. */
export const formatParameter = (formats: Formats) => {
  const names = formats.map(({ name }) => name) as [string, ...string[]]
  return Type.Optional(
    Type.Enum(names, {
      type: 'string',
      description: 'The format; without it, the Accept header decides.',
      example: names[0],
      'x-expected': names.join(' or '),
    }),
  )
}

/** Describes `crs`, which chooses the coordinate system. */
export const crsParameter = Type.Optional(
  Type.String({
    format: 'uri',
    description:
      'Coordinate system of the coordinates in the answer, as a URI from the list of the collection. They are in the order of its axes. The default is CRS84, or CRS84h if positions have heights: longitude, latitude.',
    example: 'http://www.opengis.net/def/crs/EPSG/0/3857',
    'x-expected': 'the URI of a coordinate system',
  }),
)

/** The header that names the coordinate system of an answer. */
export const contentCrs = {
  'Content-Crs': {
    type: 'string',
    description: 'Coordinate system of the coordinates in the answer, as a URI in angle brackets.',
  },
}

/** The header with the time of a feature's last change. */
export const lastModified = {
  'Last-Modified': {
    type: 'string',
    description:
      'Time of the last change of the feature, in whole seconds; left out if its table does not tell it.',
  },
}

/** Describes `explain`, which returns the query instead of its result. */
export const explainParameter = Type.Optional(
  Type.Integer({
    minimum: 1,
    maximum: 1,
    description:
      'Returns the query instead of its result: its SQL, its plan, the cells that it reads and the shards that it queries. For clients on this machine only.',
    example: 1,
    'x-expected': '1',
  }),
)

/** Parameters of a resource of which only the format can be chosen. */
export const formatQuery = Type.Object(
  { f: formatParameter(DOCUMENT_FORMATS) },
  { additionalProperties: false },
)
/** The same for a resource that has no page. */
export const jsonQuery = Type.Object({ f: formatParameter([JSON_FORMAT]) }, { additionalProperties: false })

export const collectionParams = Type.Object({
  collectionId: Type.String({ description: 'As /collections lists it.', example: 'cities' }),
})

export const itemParams = Type.Object({
  ...collectionParams.properties,
  featureId: Type.String({ description: "A feature's id.", example: '1' }),
})

export const noQuery = Type.Object({}, { additionalProperties: false })
