// Owns the registry of expected failures: code → HTTP status, title, and whether a retry can help.

export const errors = {
  'parameter-invalid': { status: 400, title: 'Invalid parameter', isRetryable: false },
  'parameter-unknown': { status: 400, title: 'Unknown parameter', isRetryable: false },
  'header-invalid': { status: 400, title: 'Invalid header', isRetryable: false },
  'request-malformed': { status: 400, title: 'Malformed request', isRetryable: false },
  'login-failed': { status: 400, title: 'Login not completed', isRetryable: false },
  'credentials-missing': { status: 401, title: 'Credentials required', isRetryable: false },
  'credentials-invalid': { status: 401, title: 'Credentials not valid', isRetryable: false },
  'permission-missing': { status: 403, title: 'Not permitted', isRetryable: false },
  'origin-forbidden': { status: 403, title: 'Pages of other sites need credentials', isRetryable: false },
  'change-forbidden': { status: 403, title: 'Change not allowed', isRetryable: false },
  'explanation-forbidden': { status: 403, title: 'Query plans are not available here', isRetryable: false },
  'resource-not-found': { status: 404, title: 'Resource not found', isRetryable: false },
  'collection-not-found': { status: 404, title: 'Collection not found', isRetryable: false },
  'feature-not-found': { status: 404, title: 'Feature not found', isRetryable: false },
  'tile-matrix-set-not-found': { status: 404, title: 'Tile matrix set not found', isRetryable: false },
  'tile-not-found': { status: 404, title: 'Tile not found', isRetryable: false },
  'key-not-found': { status: 404, title: 'API key not found', isRetryable: false },
  'feature-not-addressable': { status: 404, title: 'Features cannot be addressed', isRetryable: false },
  'method-not-allowed': { status: 405, title: 'Method not allowed', isRetryable: false },
  'not-acceptable': { status: 406, title: 'Format not available', isRetryable: false },
  'collection-conflict': { status: 409, title: 'Collection in conflict with others', isRetryable: false },
  'feature-conflict': { status: 409, title: 'Change conflicts with other features', isRetryable: false },
  'rules-changed': { status: 409, title: 'Rules have changed in the meantime', isRetryable: true },
  'change-in-progress': { status: 409, title: 'Change in progress', isRetryable: true },
  'feature-changed': { status: 412, title: 'Feature has changed in the meantime', isRetryable: false },
  'too-many-affected': { status: 412, title: 'More features than may be changed', isRetryable: false },
  'body-too-large': { status: 413, title: 'Body too large', isRetryable: false },
  'address-too-long': { status: 414, title: 'Address too long', isRetryable: false },
  'media-type-unsupported': { status: 415, title: 'Media type not supported', isRetryable: false },
  'collection-invalid': { status: 422, title: 'Collection not valid', isRetryable: false },
  'feature-invalid': { status: 422, title: 'Feature not valid', isRetryable: false },
  'key-invalid': { status: 422, title: 'API key not valid', isRetryable: false },
  'rules-invalid': { status: 422, title: 'Rules not valid', isRetryable: false },
  'transaction-invalid': { status: 422, title: 'Transaction not valid', isRetryable: false },
  'idempotency-key-reused': { status: 422, title: 'Idempotency-Key already used', isRetryable: false },
  'precondition-required': { status: 428, title: 'Condition required', isRetryable: false },
  'rate-exceeded': { status: 429, title: 'Too many requests or bytes', isRetryable: true },
  'request-too-large': { status: 431, title: 'Request header fields too large', isRetryable: false },
  'request-too-slow': { status: 408, title: 'Request timed out', isRetryable: true },
  /** The client is gone and reads no response; 499 is the status that proxies log in this case. */
  'request-abandoned': { status: 499, title: 'Client went away', isRetryable: false },
  'internal-error': { status: 500, title: 'Internal error', isRetryable: false },
  'feature-too-large': { status: 500, title: 'Feature too large to be served', isRetryable: false },
  /** Not retryable without a key, because the change may have happened. */
  'change-outcome-unknown': { status: 503, title: 'Outcome of the change unknown', isRetryable: false },
  'collection-changing': { status: 503, title: 'Collection is being changed', isRetryable: true },
  'consistency-unavailable': { status: 503, title: 'Data not as recent as required', isRetryable: true },
  'database-unavailable': { status: 503, title: 'Database unavailable', isRetryable: true },
  'database-exhausted': { status: 503, title: 'Database out of resources', isRetryable: true },
  'database-busy': { status: 503, title: 'Too many requests at once', isRetryable: true },
  'gateway-busy': { status: 503, title: 'Too many answers under way', isRetryable: true },
  'issuer-unavailable': { status: 503, title: 'Tokens cannot be checked', isRetryable: true },
  'query-too-slow': { status: 503, title: 'Query took too long', isRetryable: true },
  'http-version-unsupported': { status: 505, title: 'HTTP version not supported', isRetryable: false },
  'not-ready': { status: 503, title: 'Not ready', isRetryable: true },
} as const satisfies Record<string, { status: number; title: string; isRetryable: boolean }>

export type ErrorCode = keyof typeof errors

/** Facts about the failure that a program can use; they appear as members of the problem document. */
export type ErrorFacts = Readonly<Record<string, string | number | readonly string[] | readonly Fault[]>>

/** One fault of a body. */
export type Fault = {
  /** JSON pointer (RFC 6901) to the faulty part of the body. */
  readonly pointer: string
  /** Says what is wrong or would be right; completes a sentence whose subject is the pointer, as in "must be …". */
  readonly detail: string
  /** Line on which the feature begins, if the body is a list of lines. */
  readonly line?: number | undefined
}

/** Returns the JSON pointer (RFC 6901) to what these names lead to. */
export const pointerOf = (...names: readonly string[]) =>
  names.map((name) => `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')

/** Most faults of a body that an error names: enough to mend a body, and their search ends there. */
export const MAX_FAULTS = 20
/** Most names in a list of what would be right. */
const MAX_LISTED = 50
/** Most characters that a message repeats of a text that a client has sent. */
const MAX_QUOTED = 100
/** Most characters of a text of an error. A request can be megabytes long, and its error stays small. */
const MAX_TEXT = { detail: 4_000, fact: 1_000 }

const shorten = (text: string, most: number) => (text.length <= most ? text : `${text.slice(0, most)}…`)

/** Returns a value that a client has sent for a message: in quotes if it is a text, and shortened. */
export function quoted(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(shorten(value, MAX_QUOTED))
  if (typeof value !== 'object' || value === null) return String(value)
  return Array.isArray(value) ? 'a list' : 'an object'
}

/** Returns names for a message, separated by commas: the first ones if there are many. */
export function listed(names: Iterable<string>): string {
  const all = [...names]
  const rest = all.length > MAX_LISTED ? ` and ${all.length - MAX_LISTED} more` : ''
  return `${all.slice(0, MAX_LISTED).join(', ')}${rest}`
}

function shortenFact(fact: ErrorFacts[string]): ErrorFacts[string] {
  if (typeof fact === 'string') return shorten(fact, MAX_TEXT.fact)
  if (!Array.isArray(fact)) return fact
  return fact.slice(0, MAX_FAULTS).map((one: string | Fault) =>
    typeof one === 'string'
      ? shorten(one, MAX_TEXT.fact)
      : {
          ...one,
          pointer: shorten(one.pointer, MAX_TEXT.fact),
          detail: shorten(one.detail, MAX_TEXT.detail),
        },
  ) as readonly Fault[]
}

/** A failure that the person who started Tessera can fix; its message is written for them and says how. */
export class UserError extends Error {}

export class GatewayError extends Error {
  readonly code: ErrorCode
  readonly facts: ErrorFacts

  constructor(code: ErrorCode, detail: string, facts: ErrorFacts = {}, cause?: unknown) {
    super(shorten(detail, MAX_TEXT.detail), cause === undefined ? undefined : { cause })
    this.code = code
    this.facts = Object.fromEntries(Object.entries(facts).map(([name, fact]) => [name, shortenFact(fact)]))
  }
}

/** Creates an expected failure. `detail` is a sentence for the user of the client and may be sent to them. */
export const gatewayError = (code: ErrorCode, detail: string, facts?: ErrorFacts, cause?: unknown) =>
  new GatewayError(code, detail, facts, cause)

/** Creates the failure of a wrong parameter; `expected` completes "must be …", `example` is a valid value. */
export const invalidParameter = (parameter: string, expected: string, example: string) =>
  gatewayError(
    'parameter-invalid',
    `${parameter} must be ${expected}, for example ${parameter}=${example}.`,
    {
      parameter,
      example,
    },
  )

/** Codes of bodies with faults. */
export type InvalidBody =
  | 'feature-invalid'
  | 'collection-invalid'
  | 'key-invalid'
  | 'rules-invalid'
  | 'transaction-invalid'

/** Creates the failure of a body with faults. @param hasMore true if there are faults that are not named */
export function invalidBody(code: InvalidBody, faults: readonly Fault[], hasMore = false) {
  const [first] = faults
  const others = faults.length - 1
  const rest = hasMore ? ` (and more than ${others} others)` : others > 0 ? ` (and ${others} more)` : ''
  return gatewayError(code, `${first!.pointer || 'The body'} ${first!.detail}${rest}.`, { errors: faults })
}
