// Owns reading features: pages of a collection's items, and single ones.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Statement } from '../../database/statement.ts'
import { before } from '../../database/waiting.ts'
import { errors, GatewayError, gatewayError } from '../../errors.ts'
import type { Collection } from '../../features/collections/collection.ts'
import type { Extents } from '../../features/collections/extent.ts'
import type { FilterFunctions } from '../../features/filter/functions.ts'
import type { Encoder, Layout } from '../../features/formats/encoder.ts'
import { encoders } from '../../features/formats/encoders.ts'
import type { Format } from '../../features/formats/format.ts'
import { GEOJSON, geojson, parseFeatures } from '../../features/formats/geojson.ts'
import { JSONFG } from '../../features/formats/jsonfg.ts'
import { nameCalls } from '../../features/query/call-failure.ts'
import { explainQuery } from '../../features/query/explanation.ts'
import {
  DEFAULT_LIMIT,
  type ItemParameters,
  type ItemQuery,
  MAX_LIMIT,
  MAX_OFFSET,
  NO_LIMIT,
  planItems,
} from '../../features/query/item-query.ts'
import { isUnlocated, locate, planPlaces } from '../../features/query/locate.ts'
import { type ItemLookup, planLookup, readForPage, readItem } from '../../features/query/lookup.ts'
import { compileItems, compilePage, MAX_PAGE_BYTES, type Page } from '../../features/query/page.ts'
import {
  completePosition,
  isLarge,
  readPage,
  readPageWithin,
  streamPage,
  wayOfWhole,
} from '../../features/query/read-page.ts'
import { featureNotFound } from '../../features/query/stored-feature.ts'
import type { Unshown } from '../../features/query/unshown.ts'
import { systemOf } from '../../features/values/coordinate-system.ts'
import type { Answers } from '../answers.ts'
import { type AuthenticateOptions, makeOperatorCheck } from '../auth/authenticate.ts'
import { makeLocality } from '../auth/locality.ts'
import type { ClientOf } from '../client.ts'
import { consistencyHeaders, readConsistency, requiresNothing } from '../consistency-headers.ts'
import { closeToOthers } from '../cross-origin.ts'
import { preferHeader } from '../deadline.ts'
import { checkVersion, nameFile, takeNoLimit } from '../download.ts'
import { boxParameters, propertiesParameter, selectionParameters, takeDraft } from '../feature-parameters.ts'
import { type Asked, featureLinks, ITEM_FORMATS, sendFeature, tellSystem } from '../feature-response.ts'
import { itemPage, itemsPage, type ShownFeature } from '../html/feature-pages.ts'
import { addressWithout, type FilterLine, faultyFilterPage } from '../html/filter-line.ts'
import { sendPage as sendHtml } from '../html/layout.ts'
import { localOf } from '../html/local.ts'
import { baseMapOf } from '../html/map.ts'
import { FEATURE_FORMATS, HTML, negotiate, QUERY_PLAN } from '../negotiate.ts'
import { type PageUrls, pageLinks, pageUrls, sendPage, sendStream } from '../page-response.ts'
import { chooseProfile, profileParameter, type Shown } from '../profile.ts'
import {
  collectionParams,
  content,
  contentCrs,
  crsParameter,
  explainParameter,
  formatParameter,
  itemParams,
  lastModified,
  notFound,
  orPage,
  problemOf,
  problems,
} from '../schemas.ts'
import { Type } from '../type.ts'
import { principalOf, type View, type Views } from '../view.ts'
import type { VisibleCollections } from '../visible.ts'
import { queryablesLink } from './schemas.ts'

export const conformance = [
  'http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson',
  'http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/filter',
  'http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/features-filter',
  ...[
    'cql2-text',
    'cql2-json',
    'basic-cql2',
    'advanced-comparison-operators',
    'case-insensitive-comparison',
    'accent-insensitive-comparison',
    'basic-spatial-functions',
    'basic-spatial-functions-plus',
    'spatial-functions',
    'temporal-functions',
    'array-functions',
    'property-property',
    'arithmetic',
  ].map((name) => `http://www.opengis.net/spec/cql2/1.0/conf/${name}`),
  ...['core', 'types-schemas', 'profiles', 'api'].map(
    (name) => `http://www.opengis.net/spec/json-fg-1/1.0/conf/${name}`,
  ),
  'http://www.opengis.net/spec/ogcapi-common-3/1.0/conf/profile-parameter',
]

const itemsQuery = Type.Object(
  {
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_LIMIT,
        default: DEFAULT_LIMIT,
        description:
          'Most features on a page. A greater number than the maximum counts as the maximum. `none` selects all features in one answer, which breaks off if it cannot be completed; without `sortby` they are in no order.',
        example: 100,
        'x-expected': `an integer from 1 to ${MAX_LIMIT}, or ${NO_LIMIT} for all features at once`,
      }),
    ),
    ...boxParameters,
    crs: crsParameter,
    ...selectionParameters,
    sortby: Type.Optional(
      Type.Array(Type.String(), {
        description: 'Properties to sort by; a - before a name sorts in descending order.',
        example: ['-name'],
        'x-expected': 'names of properties separated by commas',
      }),
    ),
    properties: propertiesParameter,
    skipGeometry: Type.Optional(
      Type.Boolean({
        description: 'Leaves out the geometries: each is null.',
        default: false,
        example: true,
        'x-expected': 'true or false',
      }),
    ),
    offset: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: MAX_OFFSET,
        description:
          'Number of features to skip. Next links of a page without an offset are faster and go further, if the collection has a key.',
        example: 0,
        'x-expected': `an integer from 0 to ${MAX_OFFSET}; follow the next links to go further`,
      }),
    ),
    cursor: Type.Optional(
      Type.String({
        description: 'Position at which a page begins, exactly as a next link contains it.',
        example: 'WyJpZCIsIjEwIl0',
        'x-expected': 'as a next link has it',
      }),
    ),
    'csv-bom': Type.Optional(
      Type.Boolean({
        description:
          'Begins a CSV with a byte order mark, by which spreadsheet programs know that it is UTF-8; other formats disregard it.',
        default: false,
        example: true,
        'x-expected': 'true or false',
      }),
    ),
    f: formatParameter(FEATURE_FORMATS),
    profile: profileParameter,
    explain: explainParameter,
  },
  {
    // Any other parameter names a property of the collection, which must have the given value.
    additionalProperties: Type.String({
      description: 'Selects features whose property of this name has this value.',
    }),
  },
)

/** Most features on an HTML page: all of them are held in memory, and each is a row of its table. */
const MAX_SHOWN = 1_000
/** Bytes of features at which an HTML page ends early: they are parsed in one go, while the process does nothing else. */
const MAX_SHOWN_BYTES = 1024 * 1024

const itemQuery = Type.Object(
  {
    crs: crsParameter,
    f: formatParameter(ITEM_FORMATS),
    profile: profileParameter,
    explain: explainParameter,
  },
  { additionalProperties: false },
)

/** Media types of GeoJSON, and of JSON-FG, which is GeoJSON with further members. */
const JSON_TYPES = [...GEOJSON.types, ...JSONFG.types]

/** A response that can be a query's plan instead. */
const orExplained = <T extends { content: object }>(response: T) => ({
  ...response,
  content: { ...response.content, [QUERY_PLAN]: { schema: Type.Ref('QueryPlan#') } },
})
/** A page that can be a file of another format, which has links and counts in its headers. */
const orFile = <T extends { content: object }>(response: T) => ({
  ...response,
  content: {
    ...response.content,
    ...Object.fromEntries(
      encoders
        .filter(({ hasLinks }) => !hasLinks)
        .flatMap(({ format }) => format.types)
        .map((type) => [type, { schema: Type.String() }]),
    ),
  },
})
const countHeaders = {
  'OGC-NumberReturned': {
    type: 'integer',
    description: 'Number of features on a page in a format without a member for it.',
  },
  'OGC-NumberMatched': {
    type: 'integer',
    description: 'The same for the features that match; left out if counting would cost too much.',
  },
}
const explainProblems = {
  401: problemOf(
    'The credentials are not valid, or missing: plans are for operators, once there are credentials.',
  ),
  403: problemOf('Plans are shown only to clients on the same machine.'),
}

const readHeaders = Type.Object({ ...preferHeader, ...consistencyHeaders })

type Services = AuthenticateOptions & {
  readonly visible: VisibleCollections
  readonly extents: Extents
  readonly lookup: ItemLookup
  readonly views: Views
  readonly answers: Answers
  readonly unshown: Unshown
  readonly clientOf: ClientOf
  /** Returns the functions that filters can call. */
  readonly functions: () => FilterFunctions
  /** Time limit for an answer. */
  readonly timeoutMs: number
}

export const items: FastifyPluginAsyncTypebox<Services> = async (
  app,
  { visible, extents, lookup, views, answers, unshown, clientOf, functions, timeoutMs, ...access },
) => {
  app.addHook('onRequest', (_request, _reply, done) => done(answers.refusal()))
  app.decorateRequest('isWhole', false)
  const isFromHere = makeLocality(access)
  const checkOperator = makeOperatorCheck(access)
  const explain = async (
    request: FastifyRequest,
    reply: FastifyReply,
    compile: (view: View) => Statement | Promise<Statement>,
  ) => {
    closeToOthers(reply)
    if (!isFromHere(request)) {
      throw gatewayError(
        'explanation-forbidden',
        'Plans reveal details of the database: explain is only for clients on this machine, on a gateway that listens on loopback.',
      )
    }
    await checkOperator(request, reply)
    const view = await views.open(request, reply, timeoutMs)
    return reply
      .type(QUERY_PLAN)
      .header('cache-control', 'no-store')
      .send(await explainQuery(view.database, await compile(view)))
  }

  /** Joins the look-up with those of other requests, unless this request has requirements of its own. */
  const find = async (
    request: FastifyRequest,
    reply: FastifyReply,
    collection: Collection,
    featureId: string,
    encoder: Encoder,
  ) => {
    if (requiresNothing(request)) {
      const feature = await lookup.find(
        principalOf(request),
        clientOf(request),
        collection,
        featureId,
        encoder,
      )
      if (feature !== 'large') {
        if (feature) request.answered = { kind: 'joined', origin: feature.origin }
        return feature
      }
    }
    const { database: view, deadline } = await views.open(request, reply, undefined)
    const reserve = (bytes: number) => answers.reserve(reply, bytes)
    return before(deadline, readItem(view, unshown, collection, featureId, encoder, reserve))
  }

  /** Plans the query and opens its view: in this order, unless the database has to locate its places first. */
  const planIn = async (
    request: FastifyRequest,
    reply: FastifyReply,
    collection: Collection,
    parameters: ItemParameters,
  ): Promise<{ planned: ItemQuery; view: View }> => {
    const places = planPlaces(parameters, collection, functions())
    if (!isUnlocated(places)) {
      const planned = planItems(parameters, collection, functions(), places)
      return { planned, view: await views.open(request, reply, timeoutMs) }
    }
    const view = await views.open(request, reply, timeoutMs)
    const located = await locate(view, places)
    return { planned: planItems(parameters, collection, functions(), located), view }
  }

  const sendItemsPage = async (
    request: FastifyRequest,
    reply: FastifyReply,
    collection: Collection,
    parameters: ItemParameters,
    urls: PageUrls,
  ) => {
    const base = request.publicUrl
    const address = new URLSearchParams(request.url.split('?', 2)[1])
    const line: FilterLine = { base, collection, address, parameters }
    // A form sends an empty field, too.
    if (parameters.filter?.trim() === '') return reply.redirect(addressWithout(address, 'filter'), 303)
    const locating = extents.of(collection, principalOf(request))
    let read: { shown: ItemQuery; page: Page }
    try {
      read = await readShown(request, reply, collection, parameters)
    } catch (error) {
      if (!(error instanceof GatewayError && error.facts.parameter === 'filter')) throw error
      reply.code(errors[error.code].status).header('cache-control', 'no-store')
      return sendHtml(reply, faultyFilterPage(line, error))
    }
    const { shown, page } = read
    const { system, properties } = shown
    const features = parseFeatures(page.features) as ShownFeature[]
    const links = pageLinks(page, shown, urls)
    const baseMap = baseMapOf(base, visible.list(request))
    const extent = await locating
    const local = localOf(request)
    return sendHtml(
      reply,
      itemsPage({ ...line, system, features, columns: properties, links, baseMap, extent, local }),
    )
  }

  /** Reads the features of an HTML page, without their geometries: its script loads what the map shows. */
  const readShown = async (
    request: FastifyRequest,
    reply: FastifyReply,
    collection: Collection,
    parameters: ItemParameters,
  ) => {
    const { planned, view } = await planIn(request, reply, collection, parameters)
    const { database, deadline } = view
    const reading = { database, encoder: geojson, unshown, deadline }
    const complete = await completePosition(reading, planned)
    const shown = { ...complete, limit: Math.min(planned.limit, MAX_SHOWN), geometry: 'none' } as const
    return { shown, page: await readPageWithin(reading, shown, MAX_SHOWN_BYTES) }
  }

  app.get(
    '/collections/:collectionId/items',
    {
      schema: {
        operationId: 'getFeatures',
        summary: 'Features of a collection',
        description:
          'Every property of the collection is a parameter too, which selects the features that have this value.',
        tags: ['Data'],
        params: collectionParams,
        querystring: itemsQuery,
        headers: readHeaders,
        response: {
          200: orExplained({
            ...orFile(orPage(content('A page of features.', JSON_TYPES, Type.Ref('FeatureCollection#')))),
            headers: { ...readConsistency, ...contentCrs, ...countHeaders },
          }),
          303: {
            description: 'The filter of an HTML form was empty: the page without it is at Location.',
            type: 'null',
          },
          404: notFound,
          505: problemOf('limit=none needs HTTP/1.1.'),
          ...problems,
          ...explainProblems,
        },
      },
      // The standard requires that a limit beyond the maximum is served, not refused (/req/core/fc-limit-response-1).
      preValidation: (request, _reply, done) => {
        takeNoLimit(request)
        const query = request.query as Record<string, unknown>
        const { limit } = query
        if (typeof limit === 'string' && /^\d+$/.test(limit) && Number(limit) > MAX_LIMIT)
          query.limit = String(MAX_LIMIT)
        takeDraft(query)
        done()
      },
    },
    async (request, reply) => {
      const collection = visible.get(request, request.params.collectionId)
      const { format, type } = negotiate(request, FEATURE_FORMATS)
      const { encoder: found, link } = chooseEncoder(format, request.query.profile)
      const queryables = queryablesLink(request.publicUrl, collection)
      reply.header('link', link ? `${queryables}, ${link}` : queryables)
      // A page for people has only the first of all features.
      const isWhole = request.isWhole && found !== undefined
      const given = request.query as ItemParameters
      const parameters = isWhole ? { ...given, limit: NO_LIMIT as typeof NO_LIMIT } : given
      if (request.query.explain) {
        const places = planPlaces(parameters, collection, functions())
        let planned = isUnlocated(places) ? undefined : planItems(parameters, collection, functions(), places)
        const compile = async (view: View) => {
          planned ??= planItems(
            parameters,
            collection,
            functions(),
            isUnlocated(places) ? await locate(view, places) : places,
          )
          const compilePart = isLarge(planned) ? compileItems : compilePage
          return compilePart(planned, (found ?? geojson).inSystem(planned.system))
        }
        return explain(request, reply, compile).catch((error) =>
          Promise.reject(planned ? nameCalls(error, planned) : error),
        )
      }
      const system = systemOf('crs', parameters.crs, collection)
      const urls = pageUrls(request.publicUrl, request.url, collection, format, system)
      if (!found) return sendItemsPage(request, reply, collection, parameters, urls)
      const { planned, view } = await planIn(request, reply, collection, parameters)
      tellSystem(reply, planned.system).type(type)
      const { database, deadline } = view
      const encoder = found.inSystem(planned.system)
      const reading = { database, encoder, unshown, deadline }
      const query = await completePosition(reading, planned)
      const layout: Layout = {
        collection,
        properties: query.properties,
        hasGeometry: query.geometry !== 'none',
        hasByteOrderMark: parameters['csv-bom'] === true,
        origin: { url: urls.collection },
      }
      if (isWhole) checkVersion(request)
      // Headers cannot follow what they describe: such a page is held in memory, and may end early.
      else if (!encoder.hasLinks) {
        const page = await readPageWithin(reading, query, MAX_PAGE_BYTES)
        return sendPage(reply, page, query, urls, encoder, layout)
      }
      const page = isWhole ? wayOfWhole(query) : isLarge(query) ? 'long' : await readPage(reading, query)
      if (typeof page === 'object') return sendPage(reply, page, query, urls, encoder, layout)
      // All features would be read, and dropped.
      if (isWhole && request.method === 'HEAD') return nameFile(reply, query, encoder).send()
      const answer = answers.openLarge(request, reply, isWhole)
      // A long page takes as long as its client; PostgreSQL limits the time of each batch.
      view.lift()
      const batches = await streamPage(reading, query, page)
      return sendStream(reply, batches, query, urls, encoder, layout, answer)
    },
  )

  app.get(
    '/collections/:collectionId/items/:featureId',
    {
      schema: {
        operationId: 'getFeature',
        summary: 'A feature',
        tags: ['Data'],
        params: itemParams,
        querystring: itemQuery,
        headers: readHeaders,
        response: {
          200: orExplained({
            ...orPage(content('The feature.', JSON_TYPES, Type.Ref('Feature#'))),
            headers: { ...readConsistency, ...contentCrs, ...lastModified },
          }),
          404: notFound,
          ...problems,
          ...explainProblems,
        },
      },
    },
    async (request, reply) => {
      const { collectionId, featureId } = request.params
      const collection = visible.get(request, collectionId)
      const { format, type } = negotiate(request, ITEM_FORMATS)
      if (!collection.idColumn) throw refusedAddress(collection)
      const { crs, profile } = request.query
      const system = systemOf('crs', crs, collection)
      const { encoder: chosen, link } = chooseEncoder(format, profile)
      const encoder = (chosen ?? geojson).inSystem(system)
      if (request.query.explain) {
        const statement = planLookup(collection, featureId, encoder)
        if (!statement) throw featureNotFound(collection, featureId)
        return explain(request, reply, () => statement)
      }
      const base = request.publicUrl
      const asked: Asked = { system: crs === undefined ? undefined : system, profile }
      if (format !== HTML) {
        const feature = await find(request, reply, collection, featureId, encoder)
        if (feature === undefined) throw featureNotFound(collection, featureId)
        if (link) reply.header('link', link)
        return sendFeature(reply, base, collection, featureId, feature, type, asked, encoder)
      }
      const { database: view, deadline } = await views.open(request, reply, timeoutMs)
      const feature = await before(deadline, readForPage(view, unshown, collection, featureId, encoder))
      if (feature === undefined) throw featureNotFound(collection, featureId)
      const [shown] = parseFeatures([feature.text]) as ShownFeature[]
      const links = featureLinks(base, collection, featureId, HTML, asked)
      const baseMap = baseMapOf(base, visible.list(request))
      const local = localOf(request)
      const { geometry } = shown!
      const place = { system, isChosen: crs !== undefined, geometry, isLong: feature.isLong }
      return sendHtml(
        reply,
        itemPage({ base, collection, id: featureId, feature: shown!, place, links, baseMap, local }),
      )
    },
  )
}

/** Returns the encoder of a format, in a profile if it has any; undefined for a page. */
function chooseEncoder(format: Format, profile: readonly string[] | undefined): Partial<Shown> {
  const encoder = encoders.find((one) => one.format === format)
  return encoder ? chooseProfile(encoder, profile) : {}
}

function refusedAddress({ id, key, isKeyPhysical }: Collection): GatewayError {
  const reason =
    key.length > 1 && !isKeyPhysical
      ? `its key consists of ${key.map(({ name }) => name).join(', ')}`
      : 'its table has neither a primary key nor a unique index of values that an address can hold'
  return gatewayError('feature-not-addressable', `Features of ${id} cannot be requested by id: ${reason}.`, {
    collection: id,
  })
}
