// Owns the routes of the audit: who has changed the features of a collection, and a feature as it was.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Database } from '../../database/contract.ts'
import type { Row, Statement } from '../../database/statement.ts'
import { gatewayError, invalidParameter, quoted } from '../../errors.ts'
import { cellOfEntries } from '../../features/changes/audit.ts'
import {
  compileEntries,
  compileVersion,
  type EntrySelection,
  entryIn,
  type KeptEntry,
  type Version,
  versionIn,
} from '../../features/changes/audit-query.ts'
import type { Collection } from '../../features/collections/collection.ts'
import { closeFeature, GEOJSON, geojson } from '../../features/formats/geojson.ts'
import { convertGeometries } from '../../features/query/stored-geometry.ts'
import type { Unshown } from '../../features/query/unshown.ts'
import { parseDatetime } from '../../features/values/datetime.ts'
import type { Answers } from '../answers.ts'
import { type AuthenticateOptions, authenticateAuditor } from '../auth/authenticate.ts'
import { featureUrl, tellSystem } from '../feature-response.ts'
import { addressWith, link, linkHeader, selfUrl } from '../links.ts'
import { JSON_FORMAT, negotiate } from '../negotiate.ts'
import {
  collectionParams,
  content,
  formatParameter,
  itemParams,
  jsonQuery,
  notFound,
  problemOf,
  problems,
} from '../schemas.ts'
import { Type } from '../type.ts'
import type { Views } from '../view.ts'
import type { VisibleCollections } from '../visible.ts'

const AuditEntry = Type.Object({
  feature: Type.String({ description: 'Id of the feature.' }),
  time: Type.String({ format: 'date-time', description: 'When the change was made.' }),
  action: Type.Enum(['created', 'changed', 'removed'], { type: 'string' }),
  caller: Type.Object(
    {
      key: Type.Optional(Type.String({ description: 'Id of the API key.' })),
      issuer: Type.Optional(Type.String({ description: 'Issuer of the token.' })),
      subject: Type.Optional(Type.String({ description: 'Subject of the token.' })),
    },
    { description: 'The caller that made it; without members if there were no credentials.' },
  ),
  address: Type.String({ description: 'Address of the client.' }),
  request: Type.String({ description: 'Id of the request in the log.' }),
  links: Type.Array(Type.Ref('Link#'), {
    description:
      'The feature after the change (`memento`) and before it (`predecessor-version`), where values are kept.',
  }),
})
const AuditEntries = Type.Object({
  entries: Type.Array(AuditEntry, { description: 'The newest is first.' }),
  links: Type.Array(Type.Ref('Link#')),
})

const DEFAULT_LIMIT = 100
const MAX_LIMIT = 1_000
const pagedQuery = {
  limit: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: MAX_LIMIT,
      default: DEFAULT_LIMIT,
      description: 'Most entries in the answer.',
      example: DEFAULT_LIMIT,
      'x-expected': `an integer from 1 to ${MAX_LIMIT}`,
    }),
  ),
  cursor: Type.Optional(
    Type.String({
      description: 'Where a further page begins, exactly as a next link contains it.',
      'x-expected': 'as a next link has it',
    }),
  ),
  datetime: Type.Optional(
    Type.String({
      description: 'When the changes were made: an instant or an interval, which may be open (`..`).',
      example: '2018-02-12T00:00:00Z/..',
      'x-expected': 'an RFC 3339 date or time, or an interval of two',
    }),
  ),
  f: formatParameter([JSON_FORMAT]),
}
type Paged = { readonly limit?: number; readonly cursor?: string; readonly datetime?: string }

type Services = AuthenticateOptions & {
  readonly visible: VisibleCollections
  readonly views: Views
  readonly answers: Answers
  readonly unshown: Unshown
  /** Time limit for an answer. */
  readonly timeoutMs: number
}

const security = [{ apiKey: [] }]
const tags = ['Audit']
const description =
  'For callers with the role tessera:audit or one of the auditors of the collection, or with an API key for it.'
const refusals = {
  ...problems,
  401: problemOf('A valid API key or token is needed.'),
  403: problemOf('This caller may not see the audit of this collection.'),
  404: notFound,
}

export const audit: FastifyPluginAsyncTypebox<Services> = async (
  app,
  { visible, views, answers, unshown, timeoutMs, ...access },
) => {
  authenticateAuditor(app as unknown as FastifyInstance, { ...access, visible })
  app.addHook('onRequest', (_request, _reply, done) => done(answers.refusal()))

  app.get(
    '/collections/:collectionId/audit',
    {
      schema: {
        operationId: 'getAudit',
        summary: 'The audit of a collection: who has changed what',
        description,
        tags,
        security,
        params: collectionParams,
        querystring: Type.Object(
          {
            ...pagedQuery,
            caller: Type.Optional(
              Type.String({
                description:
                  'Changes of this caller: the id of an API key, the subject of a token, or its issuer and subject with a space in between; empty for callers without credentials.',
                example: '0123456789ab',
                'x-expected': 'the id of an API key, or the subject of a token',
              }),
            ),
          },
          { additionalProperties: false },
        ),
        response: { 200: content('Entries of the audit.', JSON_FORMAT.types, AuditEntries), ...refusals },
      },
    },
    async (request, reply) => {
      const { type } = negotiate(request, [JSON_FORMAT])
      const collection = visible.get(request, request.params.collectionId)
      const { caller, ...paged } = request.query
      const selection: EntrySelection = {
        relation: collection,
        ...planPage(paged),
        ...(caller === undefined ? {} : { callers: [caller] }),
      }
      const { database } = await views.open(request, reply, timeoutMs)
      return reply.type(type).send((await readPage(database, request, collection, selection, paged)) as never)
    },
  )

  app.get(
    '/collections/:collectionId/items/:featureId/history',
    {
      schema: {
        operationId: 'getHistory',
        summary: 'The history of a feature: who has changed it',
        description,
        tags,
        security,
        params: itemParams,
        querystring: Type.Object(pagedQuery, { additionalProperties: false }),
        response: { 200: content('Entries of the feature.', JSON_FORMAT.types, AuditEntries), ...refusals },
      },
    },
    async (request, reply) => {
      const { type } = negotiate(request, [JSON_FORMAT])
      const { collectionId, featureId } = request.params
      const collection = visible.get(request, collectionId)
      const cell = cellOfEntries(collection, featureId)
      if (!cell) throw noEntries(collection, featureId)
      const selection = { relation: collection, feature: featureId, cell, ...planPage(request.query) }
      const { database } = await views.open(request, reply, timeoutMs)
      const page = await readPage(database, request, collection, selection, request.query)
      if (page.entries.length === 0 && !isNarrowed(request.query)) throw noEntries(collection, featureId)
      return reply.type(type).send(page as never)
    },
  )

  app.get(
    '/collections/:collectionId/items/:featureId/history/:datetime',
    {
      schema: {
        operationId: 'getFeatureAt',
        summary: 'A feature as it was at a time',
        description: `${description} It is a memento (RFC 7089), of collections whose audit keeps values.`,
        tags,
        security,
        params: Type.Object({
          ...itemParams.properties,
          datetime: Type.String({
            description: 'The time, or a date for its end.',
            example: '2018-02-12T00:00:00Z',
          }),
        }),
        querystring: jsonQuery,
        response: {
          200: {
            ...content('The feature as it was.', [GEOJSON.types[0]], Type.Ref('Feature#')),
            headers: {
              'Memento-Datetime': {
                type: 'string',
                description: 'The time for which it is the version, in whole seconds.',
              },
              Link: {
                type: 'string',
                description: 'The feature as it is (`original`), and its versions (`timemap`).',
              },
            },
          },
          ...refusals,
        },
      },
    },
    async (request, reply) => {
      const { collectionId, featureId, datetime } = request.params
      const collection = visible.get(request, collectionId)
      const time = timeIn(datetime)
      const cell = cellOfEntries(collection, featureId)
      if (!cell) throw noEntries(collection, featureId)
      const { database, deadline } = await views.open(request, reply, timeoutMs)
      const rows = await readEntries(database, compileVersion(collection, featureId, cell, time))
      const version = versionIn(rows)
      if (version.kind !== 'known') throw noVersion(collection, featureId, time, version)
      const [text] = await convertGeometries({ database, encoder: geojson, unshown, deadline }, collection, [
        version.text,
      ])
      const original = featureUrl(request.publicUrl, collection, featureId)
      const links = [
        link('self', selfUrl(request.publicUrl, request.url), GEOJSON.types[0], 'This version'),
        link('original', original, GEOJSON.types[0], 'The feature as it is'),
        link('timemap', `${original}/history`, JSON_FORMAT.types[0], 'Its versions'),
      ]
      tellSystem(reply, collection.defaultSystem)
      return reply
        .type(GEOJSON.types[0])
        .header('memento-datetime', new Date(time).toUTCString())
        .header('link', links.slice(1).map(linkHeader).join(', '))
        .send(closeFeature(text!, links) as never)
    },
  )
}

/** Returns what the parameters of a page select. @throws GatewayError parameter-invalid */
function planPage({ datetime, cursor }: Paged): EntrySelection {
  const { start, end } =
    datetime === undefined ? { start: undefined, end: undefined } : parseDatetime(datetime)
  return { start, end, after: cursor === undefined ? undefined : parseCursor(cursor) }
}

const isNarrowed = ({ datetime, cursor }: Paged) => datetime !== undefined || cursor !== undefined

const CURSOR = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/
const cursorOf = ({ time, entry }: KeptEntry) => Buffer.from(`${time}_${entry}`).toString('base64url')

function parseCursor(text: string) {
  const [, time, entry] = CURSOR.exec(Buffer.from(text, 'base64url').toString()) ?? []
  if (entry === undefined || Number.isNaN(Date.parse(time!)))
    throw gatewayError(
      'parameter-invalid',
      'cursor is not valid here: it must come from a next link of this document; leave it out to start anew.',
      { parameter: 'cursor' },
    )
  return { time: time!, entry }
}

/** Returns an instant of RFC 3339; a date stands for its end. @throws GatewayError parameter-invalid */
function timeIn(text: string): string {
  const { end } = text.includes('/') ? { end: undefined } : parseDatetime(text)
  if (end !== undefined) return end
  throw invalidParameter('datetime', 'an RFC 3339 date or time', '2018-02-12T00:00:00Z')
}

/** Runs a query of entries with the role of the write port: that of the read port cannot see any. */
function readEntries(database: Database, statement: Statement): Promise<Row[]> {
  if (!database.canWrite)
    throw gatewayError('not-ready', 'The audit is read with TESSERA_WRITE_URL, which is not set here.')
  return database.write(statement, { isRepeatable: true, mayWait: false })
}

async function readPage(
  database: Database,
  { publicUrl, url }: FastifyRequest,
  collection: Collection,
  selection: EntrySelection,
  { limit = DEFAULT_LIMIT }: Paged,
) {
  const rows = await readEntries(database, compileEntries(selection, limit + 1, false))
  const found = rows.map(entryIn)
  const shown = found.slice(0, limit)
  const self = selfUrl(publicUrl, url)
  const next = found.length > limit ? addressWith(self, 'cursor', cursorOf(shown.at(-1)!)) : undefined
  return {
    entries: shown.map((entry) => documentOf(publicUrl, collection, entry)),
    links: [
      link('self', self, JSON_FORMAT.types[0], 'This document'),
      ...(next === undefined ? [] : [link('next', next, JSON_FORMAT.types[0], 'Older entries')]),
    ],
  }
}

function documentOf(
  base: string,
  collection: Collection,
  { feature, time, action, caller, address, request, before, after }: KeptEntry,
) {
  const history = `${featureUrl(base, collection, feature)}/history`
  const version = (rel: string, at: string) => link(rel, `${history}/${at}`, GEOJSON.types[0])
  return {
    feature,
    time,
    action,
    caller: callerIn(caller),
    address,
    request,
    links: [
      ...(after === null ? [] : [version('memento', time)]),
      ...(before === null ? [] : [version('predecessor-version', justBefore(time))]),
    ],
  }
}

function callerIn(caller: string) {
  const space = caller.indexOf(' ')
  if (space >= 0) return { issuer: caller.slice(0, space), subject: caller.slice(space + 1) }
  return caller === '' ? {} : { key: caller }
}

/** Returns the microsecond before a time. @param time as entries have it */
function justBefore(time: string): string {
  const micros = BigInt(Date.parse(`${time.slice(0, 19)}Z`)) * 1_000n + BigInt(time.slice(20, 26)) - 1n
  const seconds = new Date(Number(micros / 1_000n)).toISOString().slice(0, 19)
  return `${seconds}.${String(micros % 1_000_000n).padStart(6, '0')}Z`
}

const noEntries = ({ id }: Collection, feature: string) =>
  gatewayError('feature-not-found', `The audit of ${id} has no entries of a feature ${quoted(feature)}.`, {
    collection: id,
    feature,
  })

const noVersion = ({ id }: Collection, feature: string, time: string, { kind }: Version) =>
  gatewayError(
    'feature-not-found',
    kind === 'absent'
      ? `There was no feature ${quoted(feature)} in ${id} at ${time}.`
      : `The audit of ${id} has not kept what the feature ${quoted(feature)} was at ${time}.`,
    { collection: id, feature },
  )
