// Owns the registry of expected failures: code → HTTP status, title, and whether trying again can help.

export const errors = {
  'parameter-invalid': { status: 400, title: 'Invalid parameter', isRetryable: false },
  'parameter-unknown': { status: 400, title: 'Unknown parameter', isRetryable: false },
  'header-invalid': { status: 400, title: 'Invalid header', isRetryable: false },
  'request-malformed': { status: 400, title: 'Malformed request', isRetryable: false },
  'credentials-missing': { status: 401, title: 'API key required', isRetryable: false },
  'credentials-invalid': { status: 401, title: 'API key not valid', isRetryable: false },
  'permission-missing': { status: 403, title: 'API key does not allow this', isRetryable: false },
  'origin-forbidden': { status: 403, title: 'Changes from other sites need an API key', isRetryable: false },
  'change-forbidden': { status: 403, title: 'Change not allowed', isRetryable: false },
  'explanation-forbidden': { status: 403, title: 'Plans are not shown here', isRetryable: false },
  'resource-not-found': { status: 404, title: 'Nothing here', isRetryable: false },
  'collection-not-found': { status: 404, title: 'Collection not found', isRetryable: false },
  'feature-not-found': { status: 404, title: 'Feature not found', isRetryable: false },
  'feature-not-addressable': { status: 404, title: 'Features have no address here', isRetryable: false },
  'method-not-allowed': { status: 405, title: 'Method not allowed', isRetryable: false },
  'not-acceptable': { status: 406, title: 'Format not available', isRetryable: false },
  'feature-conflict': { status: 409, title: 'Change conflicts with other features', isRetryable: false },
  'change-in-progress': { status: 409, title: 'Change is being made', isRetryable: true },
  'feature-changed': { status: 412, title: 'Feature has changed meanwhile', isRetryable: false },
  'body-too-large': { status: 413, title: 'Body too large', isRetryable: false },
  'address-too-long': { status: 414, title: 'Address too long', isRetryable: false },
  'media-type-unsupported': { status: 415, title: 'Media type not supported', isRetryable: false },
  'feature-invalid': { status: 422, title: 'Feature not valid', isRetryable: false },
  'idempotency-key-reused': { status: 422, title: 'Idempotency-Key of another change', isRetryable: false },
  'request-too-large': { status: 431, title: 'Request header fields too large', isRetryable: false },
  'request-too-slow': { status: 408, title: 'Request timed out', isRetryable: true },
  /** Nobody reads this answer; the status is what proxies log in such a case. */
  'request-abandoned': { status: 499, title: 'Client went away', isRetryable: false },
  'internal-error': { status: 500, title: 'Internal error', isRetryable: false },
  /** Not retryable by itself: it may have happened. */
  'change-outcome-unknown': { status: 503, title: 'Outcome of the change unknown', isRetryable: false },
  'collection-changing': { status: 503, title: 'Collection is being changed', isRetryable: true },
  'consistency-unavailable': { status: 503, title: 'Not as recent as asked for', isRetryable: true },
  'database-unavailable': { status: 503, title: 'Database unavailable', isRetryable: true },
  'database-exhausted': { status: 503, title: 'Database out of resources', isRetryable: true },
  'database-busy': { status: 503, title: 'Too many requests at once', isRetryable: true },
  'query-too-slow': { status: 503, title: 'Query took too long', isRetryable: true },
  'not-ready': { status: 503, title: 'Not ready', isRetryable: true },
} as const satisfies Record<string, { status: number; title: string; isRetryable: boolean }>

export type ErrorCode = keyof typeof errors

/** Facts about the failure that a program can use; they appear as members of the problem document. */
export type ErrorFacts = Readonly<Record<string, string | number | readonly string[] | readonly Fault[]>>

/** One thing that is wrong with a body. */
export type Fault = {
  /** Where: a JSON pointer (RFC 6901) into the body. */
  readonly pointer: string
  /** A sentence, with what would be right. */
  readonly detail: string
}

export class GatewayError extends Error {
  readonly code: ErrorCode
  readonly facts: ErrorFacts

  constructor(code: ErrorCode, detail: string, facts: ErrorFacts = {}, cause?: unknown) {
    super(detail, cause === undefined ? undefined : { cause })
    this.code = code
    this.facts = facts
  }
}

/** An expected failure. `detail` is a sentence for the person at the other end and may be sent to them. */
export const gatewayError = (code: ErrorCode, detail: string, facts?: ErrorFacts, cause?: unknown) =>
  new GatewayError(code, detail, facts, cause)

/** A parameter that does not hold; `expected` completes "must be …", `example` is a value that works. */
export const invalidParameter = (parameter: string, expected: string, example: string) =>
  gatewayError(
    'parameter-invalid',
    `${parameter} must be ${expected}, for example ${parameter}=${example}.`,
    {
      parameter,
      example,
    },
  )
