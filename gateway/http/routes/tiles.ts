// Owns vector tiles (OGC API Tiles): of a collection and of several ones, and the documents about them.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Origin } from '../../database/consistency.ts'
import { gatewayError, quoted } from '../../errors.ts'
import { type Viewers, viewersOf } from '../../features/access/principal.ts'
import type { Collection } from '../../features/collections/collection.ts'
import type { Extents } from '../../features/collections/extent.ts'
import type { FilterFunctions } from '../../features/filter/functions.ts'
import type { ItemParameters } from '../../features/query/item-query.ts'
import { isUnlocated, type Located, locate, planPlaces } from '../../features/query/locate.ts'
import type { Unshown } from '../../features/query/unshown.ts'
import { readLayers } from '../../features/tiles/read-tile.ts'
import type { Answer, Make, TileCache } from '../../features/tiles/tile-cache.ts'
import {
  isWithin,
  limitsOf,
  parseTile,
  TILE_MATRIX_SETS,
  type Tile,
  type TileMatrixSet,
  tileMatrixSetDocument,
  tileMatrixSetOf,
  WEB_MERCATOR_QUAD,
} from '../../features/tiles/tile-matrix-set.ts'
import { hasPoints, MAX_TILE_BYTES, planTile, type TileParameters } from '../../features/tiles/tile-query.ts'
import type { Answers } from '../answers.ts'
import type { ClientOf } from '../client.ts'
import { consistencyHeaders, readConsistency, requiresNothing } from '../consistency-headers.ts'
import { preferHeader } from '../deadline.ts'
import { propertiesParameter, selectionParameters } from '../feature-parameters.ts'
import { collectionUrl } from '../feature-response.ts'
import { link, ownLinks, selfUrl } from '../links.ts'
import { type Formats, JSON_FORMAT, MVT, negotiate, TILEJSON } from '../negotiate.ts'
import { collectionParams, content, formatParameter, jsonQuery, problemOf, problems } from '../schemas.ts'
import type { Styles } from '../styles.ts'
import { type Caching, sendTileBody, tellCaches, tileHeaders } from '../tile-response.ts'
import {
  cornersOf,
  renderStyle,
  renderTileJson,
  renderTileset,
  renderTilesetItem,
  STYLE_TYPE,
  type TileSource,
  tileMatrixSetUrl,
} from '../tileset.ts'
import { Type } from '../type.ts'
import { principalOf, type Views } from '../view.ts'
import type { VisibleCollections } from '../visible.ts'

export const conformance = [
  ...[
    'core',
    'tileset',
    'tilesets-list',
    'dataset-tilesets',
    'geodata-tilesets',
    'collections-selection',
    'oas30',
    'mvt',
  ].map((name) => `http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/${name}`),
  ...['tilematrixset', 'json-tilematrixset'].map(
    (name) => `http://www.opengis.net/spec/tms/2.0/conf/${name}`,
  ),
]

/** Most collections in one tile: each is a query. */
const MAX_LAYERS = 50

const TILESET_FORMATS: Formats = [JSON_FORMAT, TILEJSON]
const formatsOf = (set: TileMatrixSet): Formats =>
  set === WEB_MERCATOR_QUAD ? TILESET_FORMATS : [JSON_FORMAT]

const tileMatrixSetId = Type.String({
  description: 'As /tileMatrixSets lists it.',
  example: WEB_MERCATOR_QUAD.id,
})
const cellOf = (what: string, example: number) =>
  Type.Integer({
    minimum: 0,
    description: `Number of the ${what} in the tile matrix; it is less than the number of its ${what}s.`,
    example,
    'x-expected': `the number of a ${what}, from 0`,
  })
const matrix = Type.String({ description: 'Identifier of the tile matrix: the zoom level.', example: '6' })
const setParams = Type.Object({ tileMatrixSetId })
const tileParams = Type.Object({
  tileMatrixSetId,
  tileMatrix: matrix,
  tileRow: cellOf('row', 22),
  tileCol: cellOf('column', 33),
})
const collectionSetParams = Type.Object({ ...collectionParams.properties, ...setParams.properties })
const collectionTileParams = Type.Object({ ...collectionParams.properties, ...tileParams.properties })
const zxyParams = Type.Object({
  ...collectionParams.properties,
  z: matrix,
  x: cellOf('column', 33),
  y: cellOf('row', 22),
})

const collectionsParameter = Type.Optional(
  Type.Array(Type.String({ minLength: 1 }), {
    minItems: 1,
    maxItems: MAX_LAYERS,
    description: `Ids or URLs of collections, at most ${MAX_LAYERS}, in the order of the layers. Without it, all collections are in the tiles, or the first ${MAX_LAYERS}.`,
    example: ['countries', 'cities'],
    'x-expected': `1 to ${MAX_LAYERS} ids of collections separated by commas`,
  }),
)
const clusterParameter = Type.Optional(
  Type.Boolean({
    description:
      'Points that are close together become one feature with their number, `point_count`, and what it has of its own if that is 1.',
    default: false,
    example: true,
    'x-expected': 'true or false',
  }),
)
const tileFormat = formatParameter([MVT])

/** Any other parameter of a collection's tiles names a property, which must have the given value. */
const tileQuery = Type.Object(
  {
    ...selectionParameters,
    properties: propertiesParameter,
    cluster: clusterParameter,
    f: tileFormat,
  },
  {
    additionalProperties: Type.String({
      description: 'Selects features whose property of this name has this value.',
    }),
  },
)
const datasetTileQuery = Type.Object(
  {
    collections: collectionsParameter,
    datetime: selectionParameters.datetime,
    cluster: clusterParameter,
    f: tileFormat,
  },
  { additionalProperties: false },
)
const datasetQuery = (formats: Formats) =>
  Type.Object(
    { collections: collectionsParameter, f: formatParameter(formats) },
    { additionalProperties: false },
  )
const tilesetQuery = Type.Object({ f: formatParameter(TILESET_FORMATS) }, { additionalProperties: false })

const readHeaders = Type.Object({ ...preferHeader, ...consistencyHeaders })

const links = Type.Array(Type.Ref('LinkTemplate#'))
const TilesetItem = Type.Object({
  title: Type.String(),
  dataType: Type.String(),
  crs: Type.String(),
  tileMatrixSetURI: Type.String({ format: 'uri' }),
  links,
})
const Tilesets = Type.Object({ links, tilesets: Type.Array(TilesetItem) })
const corner = Type.Array(Type.Number(), { minItems: 2, maxItems: 2 })
const BoundingBox = Type.Object({ lowerLeft: corner, upperRight: corner, crs: Type.String() })
const count = Type.Integer({ minimum: 0 })
const Tileset = Type.Object({
  title: Type.String(),
  description: Type.Optional(Type.String()),
  attribution: Type.Optional(Type.String()),
  license: Type.Optional(Type.String()),
  mediaTypes: Type.Array(Type.String()),
  dataType: Type.String(),
  crs: Type.String(),
  tileMatrixSetURI: Type.String({ format: 'uri' }),
  tileMatrixSetLimits: Type.Array(
    Type.Object({
      tileMatrix: Type.String(),
      minTileRow: count,
      maxTileRow: count,
      minTileCol: count,
      maxTileCol: count,
    }),
  ),
  boundingBox: Type.Optional(BoundingBox),
  layers: Type.Array(
    Type.Object({
      id: Type.String(),
      title: Type.String(),
      description: Type.Optional(Type.String()),
      dataType: Type.String(),
      geometryDimension: Type.Optional(Type.Integer({ minimum: 0, maximum: 2 })),
      crs: Type.String(),
      boundingBox: Type.Optional(BoundingBox),
      propertiesSchema: Type.Object({
        type: Type.String(),
        properties: Type.Object({}, { additionalProperties: true }),
      }),
      links,
    }),
  ),
  links,
})
const zoom = Type.Integer({ minimum: 0, maximum: 30 })
const TileJson = Type.Object({
  tilejson: Type.String(),
  name: Type.String(),
  description: Type.Optional(Type.String()),
  attribution: Type.Optional(Type.String()),
  scheme: Type.String(),
  tiles: Type.Array(Type.String(), { minItems: 1 }),
  minzoom: zoom,
  maxzoom: zoom,
  bounds: Type.Optional(Type.Array(Type.Number(), { minItems: 4, maxItems: 4 })),
  vector_layers: Type.Array(
    Type.Object({
      id: Type.String(),
      description: Type.String(),
      minzoom: zoom,
      maxzoom: zoom,
      fields: Type.Object({}, { additionalProperties: true }),
    }),
  ),
})
const Style = Type.Object(
  {
    version: Type.Integer(),
    name: Type.String(),
    sources: Type.Object({}, { additionalProperties: true }),
    layers: Type.Array(Type.Object({}, { additionalProperties: true })),
  },
  { additionalProperties: true },
)
const TileMatrixSetItem = Type.Object({
  id: Type.String(),
  title: Type.String(),
  uri: Type.String({ format: 'uri' }),
  crs: Type.String(),
  links,
})
const TileMatrixSets = Type.Object({ links, tileMatrixSets: Type.Array(TileMatrixSetItem) })
const TileMatrixSetDocument = Type.Object({
  id: Type.String(),
  title: Type.String(),
  uri: Type.String({ format: 'uri' }),
  crs: Type.String(),
  orderedAxes: Type.Array(Type.String(), { minItems: 2, maxItems: 2 }),
  wellKnownScaleSet: Type.String({ format: 'uri' }),
  tileMatrices: Type.Array(
    Type.Object({
      id: Type.String(),
      scaleDenominator: Type.Number(),
      cellSize: Type.Number(),
      pointOfOrigin: corner,
      tileWidth: Type.Integer(),
      tileHeight: Type.Integer(),
      matrixWidth: Type.Integer(),
      matrixHeight: Type.Integer(),
    }),
  ),
})

const notHere = problemOf('There is no such collection or tile matrix set.')
const tilesetAnswer = {
  description: 'Its metadata.',
  content: {
    [JSON_FORMAT.types[0]]: { schema: Tileset },
    [TILEJSON.types[0]]: { schema: TileJson },
  },
}
const tileResponses = {
  200: {
    ...content(
      'The tile: a layer for each collection that has features in it.',
      MVT.types,
      Type.String({ format: 'binary' }),
    ),
    headers: { ...readConsistency, ...tileHeaders },
  },
  204: {
    description: 'No feature is in the tile.',
    type: 'null',
    headers: { ...readConsistency, ...tileHeaders },
  },
  404: problemOf('There is no such collection, or the tile is outside of the limits of its tileset.'),
  ...problems,
}

type Services = {
  readonly visible: VisibleCollections
  readonly extents: Extents
  readonly views: Views
  readonly answers: Answers
  readonly cache: TileCache
  readonly caching: Caching
  readonly clientOf: ClientOf
  readonly styles: Styles
  readonly unshown: Unshown
  /** Returns the functions that filters can call. */
  readonly functions: () => FilterFunctions
  /** Time limit for a tile. */
  readonly timeoutMs: number
}

export const tiles: FastifyPluginAsyncTypebox<Services> = async (
  app,
  { visible, extents, views, answers, cache, caching, clientOf, styles, unshown, functions, timeoutMs },
) => {
  app.addHook('onRequest', (_request, _reply, done) => done(answers.refusal()))

  const layersOf = (request: FastifyRequest, collections: readonly Collection[]) =>
    Promise.all(
      collections.map(async (collection) => ({
        collection,
        extent: await extents.of(collection, principalOf(request)),
      })),
    )

  /** Returns the collections that a request names, in their order. */
  const chosen = (request: FastifyRequest, names: readonly string[] | undefined): readonly Collection[] => {
    if (!names) return visible.list(request).slice(0, MAX_LAYERS)
    const prefix = `${request.publicUrl}/collections/`
    const ids = new Set(
      names.map((name) => (name.startsWith(prefix) ? decodeURIComponent(name.slice(prefix.length)) : name)),
    )
    const known = visible.list(request)
    return [...ids].map((id) => {
      const collection = known.find((one) => one.id === id)
      if (collection) return collection
      throw gatewayError(
        'parameter-invalid',
        `collections names ${quoted(id)}, and there is no such collection.`,
        {
          parameter: 'collections',
        },
      )
    })
  }

  const sourceOf = async (request: FastifyRequest, collection: Collection): Promise<TileSource> => ({
    url: collectionUrl(request.publicUrl, collection),
    title: collection.title,
    description: collection.description,
    layers: await layersOf(request, [collection]),
    choice: '',
  })
  const datasetOf = async (
    request: FastifyRequest,
    names: readonly string[] | undefined,
  ): Promise<TileSource> => ({
    url: request.publicUrl,
    title: 'Tessera',
    description: 'All collections, each as a layer.',
    layers: await layersOf(request, chosen(request, names)),
    choice: names ? `?collections=${names.map(encodeURIComponent).join(',')}` : '',
  })

  const sendTilesets = (request: FastifyRequest, reply: FastifyReply, source: TileSource) => {
    const { type } = negotiate(request, [JSON_FORMAT])
    const base = request.publicUrl
    return reply.type(type).send({
      links: ownLinks(selfUrl(base, request.url), JSON_FORMAT, [JSON_FORMAT]),
      tilesets: TILE_MATRIX_SETS.map((set) => renderTilesetItem(base, source, set)),
    })
  }
  const sendTileset = (
    request: FastifyRequest,
    reply: FastifyReply,
    set: TileMatrixSet,
    source: TileSource,
  ) => {
    const formats = formatsOf(set)
    const { format, type } = negotiate(request, formats)
    const base = request.publicUrl
    const own = ownLinks(selfUrl(base, request.url), format, formats)
    reply.type(type)
    return reply.send(format === TILEJSON ? renderTileJson(source) : renderTileset(base, source, set, own))
  }

  /** Sends a tile as it is kept, or as the database has it: nothing if it is empty, a problem if it always is. */
  const sendTile = async (
    request: FastifyRequest,
    reply: FastifyReply,
    tile: Tile,
    collections: readonly Collection[],
    parameters: TileParameters,
  ) => {
    const { type } = negotiate(request, [MVT])
    // A filter may call a function that depends on claims.
    const isPlain = { isSteady: parameters.filter === undefined }
    const viewers = viewersOf(principalOf(request), [...collections, isPlain])
    const key = keyOf(viewers, tile, collections, parameters)
    const answer =
      (requiresNothing(request) && cache.recent(key)) ||
      (await readTile(request, reply, key, viewers, planMaking(tile, collections, parameters)))
    // What required more has its own headers of its origin.
    if (request.answered?.kind !== 'read') request.answered = { kind: 'joined', origin: originOf(answer) }
    const isEmpty = answer.tile.body.length === 0
    if (isEmpty) await checkLimits(request, tile, collections)
    tellCaches(request, reply, answer, { viewers, collections }, caching)
    return isEmpty ? reply.code(204).send() : sendTileBody(request, reply, answer, type)
  }

  /**
   * Checks that an empty tile is within the limits of its tileset. One that is not empty always is: a new feature can be
   * outside of the extent as it was last computed.
   */
  const checkLimits = async (request: FastifyRequest, tile: Tile, collections: readonly Collection[]) => {
    const corners = cornersOf(await layersOf(request, collections))
    if (isWithin(tile, limitsOf(tile.set, corners))) return
    throw gatewayError(
      'tile-not-found',
      `Row ${tile.row}, column ${tile.column} of matrix ${tile.level} is outside of the limits of this tileset.`,
    )
  }

  /** Plans what reads a tile. What can be refused without the database is refused here. */
  const planMaking = (tile: Tile, collections: readonly Collection[], parameters: TileParameters): Make => {
    const most = Math.floor(MAX_TILE_BYTES / Math.max(collections.length, 1))
    const known = functions()
    const plan = (collection: Collection, located: Located) =>
      planTile(parameters, collection, tile, most, known, located)
    const planned = collections.map((collection) => {
      const places = planPlaces(parameters as ItemParameters, collection, known)
      return isUnlocated(places) ? { collection, places } : plan(collection, places)
    })
    return async (database, deadline) => {
      const queries = await Promise.all(
        planned.map(async (one) =>
          'places' in one ? plan(one.collection, await locate({ database, deadline }, one.places)) : one,
        ),
      )
      const body = await readLayers({ database, deadline, unshown }, queries)
      // Places are located wherever a node is free to.
      const isAnywhere = planned.some((one) => 'places' in one || !one.cells)
      return {
        body,
        isSteady: queries.every(({ isSteady }) => isSteady),
        cells: isAnywhere ? undefined : queries.flatMap(({ cells }) => cells!),
      }
    }
  }

  const readTile = async (
    request: FastifyRequest,
    reply: FastifyReply,
    key: string,
    { claims }: Viewers,
    make: Make,
  ): Promise<Answer> => {
    const { database, consistency, deadline } = await views.open(request, reply, timeoutMs)
    const recipient = { client: clientOf(request), claims }
    const { required, isEventual, isTracked } = consistency
    if (!isEventual || isTracked)
      // What is read at a primary has other states than what is read at a secondary.
      return cache.readConsistent(
        required === 'everything' ? `${key} at primaries` : key,
        database.within({ ...recipient, consistency }),
        consistency,
        deadline,
        make,
      )
    request.answered = null
    return cache.read(key, recipient, deadline, make)
  }

  const sendCollectionTile = (
    request: FastifyRequest,
    reply: FastifyReply,
    collection: Collection,
    tile: Tile,
  ) => {
    const parameters = request.query as TileParameters
    if (parameters.cluster && !hasPoints(collection.geometry))
      throw gatewayError(
        'parameter-invalid',
        `cluster must be left out: features of ${collection.id} are not single points.`,
        { parameter: 'cluster' },
      )
    return sendTile(request, reply, tile, [collection], parameters)
  }

  app.get(
    '/tileMatrixSets',
    {
      schema: {
        operationId: 'getTileMatrixSets',
        summary: 'The tile matrix sets',
        tags: ['Tiles'],
        querystring: jsonQuery,
        response: { 200: content('All tile matrix sets.', JSON_FORMAT.types, TileMatrixSets), ...problems },
      },
    },
    async (request, reply) => {
      const { type } = negotiate(request, [JSON_FORMAT])
      const base = request.publicUrl
      reply.type(type)
      return {
        links: ownLinks(selfUrl(base, request.url), JSON_FORMAT, [JSON_FORMAT]),
        tileMatrixSets: TILE_MATRIX_SETS.map((set) => ({
          id: set.id,
          title: set.title,
          uri: set.uri,
          crs: set.crs,
          links: [link('self', tileMatrixSetUrl(base, set), JSON_FORMAT.types[0], set.title)],
        })),
      }
    },
  )
  app.get(
    '/tileMatrixSets/:tileMatrixSetId',
    {
      schema: {
        operationId: 'getTileMatrixSet',
        summary: 'A tile matrix set',
        tags: ['Tiles'],
        params: setParams,
        querystring: jsonQuery,
        response: {
          200: content('Its definition (OGC 17-083r4).', JSON_FORMAT.types, TileMatrixSetDocument),
          404: notHere,
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const { type } = negotiate(request, [JSON_FORMAT])
      reply.type(type)
      return tileMatrixSetDocument(tileMatrixSetOf(request.params.tileMatrixSetId))
    },
  )

  app.get(
    '/tiles',
    {
      schema: {
        operationId: 'all.dataset.vector.getTileSetsList',
        summary: 'The tilesets of all collections',
        tags: ['Tiles'],
        querystring: datasetQuery([JSON_FORMAT]),
        response: {
          200: content('A tileset for each tile matrix set.', JSON_FORMAT.types, Tilesets),
          ...problems,
        },
      },
    },
    async (request, reply) =>
      sendTilesets(request, reply, await datasetOf(request, request.query.collections)),
  )
  app.get(
    '/tiles/:tileMatrixSetId',
    {
      schema: {
        operationId: 'all.dataset.vector.getTileSet',
        summary: 'A tileset of all collections',
        tags: ['Tiles'],
        params: setParams,
        querystring: datasetQuery(TILESET_FORMATS),
        response: {
          200: tilesetAnswer,
          404: notHere,
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const set = tileMatrixSetOf(request.params.tileMatrixSetId)
      return sendTileset(request, reply, set, await datasetOf(request, request.query.collections))
    },
  )
  app.get(
    '/tiles/:tileMatrixSetId/:tileMatrix/:tileRow/:tileCol',
    {
      schema: {
        operationId: 'all.dataset.vector.getTile',
        summary: 'A tile of all collections',
        tags: ['Tiles'],
        params: tileParams,
        querystring: datasetTileQuery,
        headers: readHeaders,
        response: tileResponses,
      },
    },
    async (request, reply) => {
      const { tileMatrixSetId, tileMatrix, tileRow, tileCol } = request.params
      const { collections, ...parameters } = request.query
      const tile = parseTile(tileMatrixSetOf(tileMatrixSetId), tileMatrix, tileRow, tileCol)
      return sendTile(request, reply, tile, chosen(request, collections), parameters)
    },
  )

  app.get(
    '/collections/:collectionId/tiles',
    {
      schema: {
        operationId: 'one.collection.vector.getTileSetsList',
        summary: 'The tilesets of a collection',
        tags: ['Tiles'],
        params: collectionParams,
        querystring: jsonQuery,
        response: {
          200: content('A tileset for each tile matrix set.', JSON_FORMAT.types, Tilesets),
          404: notHere,
          ...problems,
        },
      },
    },
    async (request, reply) =>
      sendTilesets(
        request,
        reply,
        await sourceOf(request, visible.get(request, request.params.collectionId)),
      ),
  )
  app.get(
    '/collections/:collectionId/tiles/:tileMatrixSetId',
    {
      schema: {
        operationId: 'one.collection.vector.getTileSet',
        summary: 'A tileset of a collection',
        tags: ['Tiles'],
        params: collectionSetParams,
        querystring: tilesetQuery,
        response: {
          200: tilesetAnswer,
          404: notHere,
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const collection = visible.get(request, request.params.collectionId)
      const set = tileMatrixSetOf(request.params.tileMatrixSetId)
      return sendTileset(request, reply, set, await sourceOf(request, collection))
    },
  )
  app.get(
    '/collections/:collectionId/tiles/:tileMatrixSetId/:tileMatrix/:tileRow/:tileCol',
    {
      schema: {
        operationId: 'one.collection.vector.getTile',
        summary: 'A tile of a collection',
        description:
          'Every property of the collection is a parameter too, which selects the features that have this value.',
        tags: ['Tiles'],
        params: collectionTileParams,
        querystring: tileQuery,
        headers: readHeaders,
        response: tileResponses,
      },
    },
    async (request, reply) => {
      const { collectionId, tileMatrixSetId, tileMatrix, tileRow, tileCol } = request.params
      const collection = visible.get(request, collectionId)
      const tile = parseTile(tileMatrixSetOf(tileMatrixSetId), tileMatrix, tileRow, tileCol)
      return sendCollectionTile(request, reply, collection, tile)
    },
  )
  // The address that other servers have, with the column first; the second form is not part of the API's definition.
  for (const { url, hide } of [
    { url: '/collections/:collectionId/:z/:x/:y.mvt', hide: false },
    { url: '/:collectionId/:z/:x/:y.mvt', hide: true },
  ])
    app.get(
      url,
      {
        schema: {
          ...(hide ? { hide } : { operationId: 'xyz.collection.vector.getTile' }),
          summary: 'A tile of a collection in WebMercatorQuad, with the column before the row',
          tags: ['Tiles'],
          params: zxyParams,
          querystring: tileQuery,
          headers: readHeaders,
          response: tileResponses,
        },
      },
      async (request, reply) => {
        const { collectionId, z, x, y } = request.params
        const collection = visible.get(request, collectionId)
        return sendCollectionTile(request, reply, collection, parseTile(WEB_MERCATOR_QUAD, z, y, x))
      },
    )

  /** Returns the operator's style, or one that is made. @param collection undefined for all, or some of them */
  const styleOf = (source: TileSource, base: string, collection: string | undefined) => {
    const own = source.choice === '' ? styles.of(base, collection) : undefined
    return own ? { name: source.title, ...own } : renderStyle(source)
  }
  const documents = [
    {
      file: 'tilejson.json',
      id: 'TileJson',
      summary: 'TileJSON 3.0 of the tiles in WebMercatorQuad',
      type: TILEJSON.types[0],
      schema: TileJson,
      render: renderTileJson,
    },
    {
      file: 'style.json',
      id: 'MapStyle',
      summary: 'A style with which MapLibre draws the tiles',
      type: STYLE_TYPE,
      schema: Style,
      render: styleOf,
    },
  ]
  for (const { file, id, summary, type, schema, render } of documents) {
    app.get(
      `/${file}`,
      {
        schema: {
          operationId: `getDataset${id}`,
          summary: `${summary} of all collections`,
          tags: ['Tiles'],
          querystring: Type.Object({ collections: collectionsParameter }, { additionalProperties: false }),
          response: { 200: content('The document.', [type], schema), ...problems },
        },
      },
      async (request, reply) => {
        const source = await datasetOf(request, request.query.collections)
        return reply.type(type).send(render(source, request.publicUrl, undefined))
      },
    )
    app.get(
      `/collections/:collectionId/${file}`,
      {
        schema: {
          operationId: `getCollection${id}`,
          summary: `${summary} of a collection`,
          tags: ['Tiles'],
          params: collectionParams,
          querystring: Type.Object({}, { additionalProperties: false }),
          response: { 200: content('The document.', [type], schema), 404: notHere, ...problems },
        },
      },
      async (request, reply) => {
        const collection = visible.get(request, request.params.collectionId)
        const source = await sourceOf(request, collection)
        return reply.type(type).send(render(source, request.publicUrl, collection.id))
      },
    )
  }
}

/** Returns all that a tile depends on, except for what is stored. The version of a collection is that of its table, too. */
const keyOf = (
  { name }: Viewers,
  { set, level, row, column }: Tile,
  collections: readonly Collection[],
  { f: _, ...parameters }: TileParameters,
) =>
  `${name} ${set.id}/${level}/${row}/${column} ${collections.map(({ version }) => version)} ${JSON.stringify(Object.entries(parameters).toSorted(([a], [b]) => (a < b ? -1 : 1)))}`

/** Returns where a tile was read. The time without a primary goes on while it is kept. */
const originOf = ({ sight: { at, origin } }: Answer): Origin => ({
  ...origin,
  orphanedForMs:
    origin.orphanedForMs === undefined ? undefined : origin.orphanedForMs + performance.now() - at,
})
