// Owns the responses of failed requests: any error → a problem document (RFC 9457), logged once.

import type { Socket } from 'node:net'
import type {
  FastifyError,
  FastifyInstance,
  FastifyReply,
  FastifyRequest,
  FastifySchemaValidationError,
} from 'fastify'
import { type ErrorCode, errors, GatewayError, gatewayError, invalidParameter, quoted } from '../errors.ts'
import type { Emit } from '../events.ts'
import { sendPage } from './html/layout.ts'
import { problemPage } from './html/problem-page.ts'
import { withGivenKey } from './idempotency.ts'
import { selfUrl } from './links.ts'
import { wantsHtml } from './negotiate.ts'
import { STATUS_CODES } from './node-http.ts'
import { isUploading } from './upload.ts'

const [HOST, EXPECT] = [{ header: 'Host' }, { header: 'Expect' }]
const MEDIA_TYPE = 'application/problem+json'
/** Seconds until a client should retry after a passing failure: a failover takes seconds. */
const RETRY_AFTER_S = 2

/** Status of an error of Fastify that the client has caused → error code. */
const FRAMEWORK_CODES: Record<number, ErrorCode> = {
  400: 'request-malformed',
  404: 'resource-not-found',
  408: 'request-too-slow',
  413: 'body-too-large',
  414: 'address-too-long',
  415: 'media-type-unsupported',
  431: 'request-too-large',
}

/** Descriptions of errors of Fastify, whose own would repeat the address. */
const FRAMEWORK_DETAILS: Readonly<Record<string, string>> = {
  FST_ERR_BAD_URL: 'The path has a percent sign that encodes nothing, or bytes that are not UTF-8 text.',
  FST_ERR_MAX_PARAM_LENGTH: 'A part of the path, such as an id, is too long: it may have 1,000 characters.',
}

/** Headers that describe features, of which a problem has none. */
const HEADERS_OF_FEATURES = ['content-crs', 'content-disposition']

export function problem(app: FastifyInstance, { emit }: { emit: Emit }) {
  // Node itself would answer these requests without a body.
  app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response))
  app.addHook('onRequest', ({ headers, raw }, _reply, done) => {
    if (headers.host === undefined && raw.httpVersion !== '1.0')
      return done(gatewayError('header-invalid', 'Host must name the server: HTTP/1.1 requires it.', HOST))
    if (headers.host !== (headers[':authority'] ?? headers.host))
      return done(gatewayError('header-invalid', 'Host must be the same as :authority, or left out.', HOST))
    if (headers.expect !== undefined && !/^100-continue$/i.test(headers.expect))
      return done(gatewayError('header-invalid', 'Expect must be 100-continue, or left out.', EXPECT))
    done()
  })
  app.setErrorHandler((error: FastifyError, request, reply) => sendProblem(error, request, reply, emit))
  app.setNotFoundHandler((request, reply) => {
    const error = gatewayError(
      'resource-not-found',
      `There is no resource at ${quoted(pathOf(request.url))}; / lists the existing ones.`,
    )
    return sendProblem(error, request, reply, emit)
  })
}

/** Sends a problem, also for errors before a route is found, see Fastify's frameworkErrors. */
export function sendProblem(error: Error, request: FastifyRequest, reply: FastifyReply, emit: Emit) {
  try {
    return describeAndSend(error, request, reply, emit)
  } catch (failure) {
    // Fastify would describe the failure in its own form.
    emit({ type: 'request-failed', ...factsOf(request), error: failure as Error })
    reply.code(errors['internal-error'].status).header('cache-control', 'no-store')
    return reply.header('content-type', MEDIA_TYPE).send(renderProblem(bug(failure), request.id))
  }
}

const factsOf = ({ id, method, url }: FastifyRequest) => ({ id, method, url })

function describeAndSend(error: Error, request: FastifyRequest, reply: FastifyReply, emit: Emit) {
  const expected = withGivenKey(toGatewayError(error, request), request)
  const { code } = expected
  const { status, isRetryable } = errors[code]
  if (code === 'internal-error') emit({ type: 'request-failed', ...factsOf(request), error })
  else if (status === 503) emit({ type: 'request-refused', ...factsOf(request), code, error })
  for (const name of HEADERS_OF_FEATURES) reply.removeHeader(name)
  const isAgain = isRetryable || expected.facts.idempotencyKey
  if (isAgain && !reply.hasHeader('retry-after')) reply.header('retry-after', RETRY_AFTER_S)
  if (Array.isArray(expected.facts.allow)) reply.header('allow', expected.facts.allow.join(', '))
  reply.code(status).header('cache-control', 'no-store')
  if (wantsHtml(request)) {
    const { id, publicUrl: base } = request
    const address = base === undefined ? undefined : selfUrl(base, request.url)
    return sendPage(reply, problemPage(base ?? '', code, expected.message, id, address))
  }
  return reply.header('content-type', MEDIA_TYPE).send(Buffer.from(renderProblem(expected, request.id)))
}

export function renderProblem({ code, message, facts }: GatewayError, requestId: string): string {
  const { status, title } = errors[code]
  return JSON.stringify({
    type: `urn:tessera:problem:${code}`,
    title,
    status,
    detail: message,
    code,
    requestId,
    ...facts,
  })
}

const pathOf = (url: string) => url.split('?', 1)[0]!

function toGatewayError(error: Error & Partial<FastifyError>, request: FastifyRequest): GatewayError {
  if (error instanceof GatewayError) return error
  if (error.validation?.[0]) return describeValidation(error.validation[0], request)
  // An error of Fastify or a plugin: whatever its name, its status shows whose fault it is.
  const { statusCode = 500 } = error
  const isTheirs = statusCode >= 400 && statusCode < 500
  const code = isTheirs ? (FRAMEWORK_CODES[statusCode] ?? 'request-malformed') : undefined
  const types = request.routeOptions.config?.body?.types
  if (code === 'media-type-unsupported' && types)
    return gatewayError(code, `Send the body as ${types.join(' or ')}, named in Content-Type.`, {}, error)
  if (code) {
    const detail = FRAMEWORK_DETAILS[error.code ?? ''] ?? `${error.message.replace(/\.$/, '')}.`
    return gatewayError(code, detail, {}, error)
  }
  // The client left in the middle of its body.
  if (error.code === 'ECONNRESET' && request.raw.destroyed)
    return gatewayError('request-abandoned', 'The client went away.', {}, error)
  return bug(error)
}

const bug = (cause: unknown) =>
  gatewayError(
    'internal-error',
    'Something went wrong here; the log has the details under the requestId.',
    {},
    cause,
  )

/** Returns the error of a parameter that its schema refuses; the schema's own text says what would be right. */
function describeValidation(fault: FastifySchemaValidationError, request: FastifyRequest): GatewayError {
  if (fault.keyword === 'additionalProperties') {
    const name = String(fault.params.additionalProperty)
    const known = Object.keys(parametersOf(request))
    const list = known.length > 0 ? `known here: ${known.join(', ')}` : 'there are none here'
    return gatewayError('parameter-unknown', `There is no parameter ${quoted(name)}; ${list}.`, {
      parameter: name,
    })
  }
  const name =
    fault.keyword === 'required'
      ? String(fault.params.missingProperty)
      : (fault.instancePath.split('/')[1] ?? '')
  const schema = parametersOf(request)[name] ?? partsOfPath(request)[name]
  if (!schema) return invalidParameter(name, 'given once', 'value')
  // String() separates the items of a list by commas, as a URL does.
  return invalidParameter(name, schema['x-expected'] ?? fault.message ?? 'valid', String(schema.example))
}

type ParameterSchema = { readonly example?: unknown; readonly 'x-expected'?: string }

const propertiesOf = (schema: unknown) =>
  (schema as { properties?: Record<string, ParameterSchema> } | undefined)?.properties ?? {}
const parametersOf = (request: FastifyRequest) => propertiesOf(request.routeOptions.schema?.querystring)
const partsOfPath = (request: FastifyRequest) => propertiesOf(request.routeOptions.schema?.params)

const CLIENT_ERRORS = {
  'request-too-slow': 'The request did not arrive in time; send it again.',
  'request-too-large': 'The header is larger than 16 KiB; send fewer or shorter parameters and headers.',
  'request-malformed': 'The request could not be read as HTTP.',
} as const

/** Answers, directly on the socket, a request that Node could not read as HTTP. */
export function answerClientError(error: Error & { code?: string }, socket: Socket) {
  // A body that is stored as it arrives has deadlines of its own.
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT' && isUploading(socket)) return socket
  // What did not begin with TLS, or could not agree on it, cannot be answered.
  if (error.code === 'ECONNRESET' || /^ERR_(SSL|TLS)_/.test(error.code ?? '') || !socket.writable)
    return socket.destroy()
  const code =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? 'request-too-slow'
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? 'request-too-large'
        : 'request-malformed'
  const body = renderProblem(gatewayError(code, CLIENT_ERRORS[code]), '')
  const { status } = errors[code]
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Type: ${MEDIA_TYPE}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    // Node keeps sockets half open: a client that goes on sending would hold its connection.
    () => socket.destroy(),
  )
  return socket
}
