// Owns the list of all observable facts, which go to the log, the terminal and the metrics.

export type Event =
  | { type: 'embedded-starting'; folder: string; binaries: string }
  | { type: 'embedded-recovered'; folder: string; processId: number }
  | { type: 'embedded-started'; socket: string; milliseconds: number }
  /** Its log is archived into a folder from now on; without a backup there, that leads to nothing yet. */
  | { type: 'embedded-archiving'; folder: string; hasBackups: boolean }
  /** Its log cannot be archived now; it is kept until that works. */
  | { type: 'archive-missing'; folder: string; error: Error }
  | { type: 'embedded-stopped'; milliseconds: number }
  | { type: 'embedded-died'; code: number | null; signal: string | null; log: string }
  | { type: 'database-awaited'; error: Error }
  | { type: 'migration-applied'; file: string; milliseconds: number }
  | { type: 'import-started'; collection: string; source: string }
  | {
      type: 'import-advanced'
      collection: string
      features: number
      /** What was read so far, in bytes or in features. */
      done: number
      /** Undefined if it is not known. */
      total: number | undefined
    }
  | { type: 'import-loading'; collection: string; features: number }
  | { type: 'import-left-out-ids'; collection: string; count: number }
  | { type: 'import-noted'; collection: string; note: string }
  | { type: 'import-finished'; collection: string; features: number; skipped: number; milliseconds: number }
  | {
      type: 'import-skipped-feature'
      collection: string
      unit: 'Line' | 'Feature'
      line: number
      reason: string
    }
  /** `total` is an estimate; undefined if none is known. */
  | {
      type: 'export-advanced'
      collection: string
      features: number
      bytes: number
      total: number | undefined
    }
  | { type: 'export-finished'; collection: string; features: number; bytes: number; milliseconds: number }
  /** `total` is the number of tiles of this zoom that are looked at, `tiles` that of all tiles with something in them. */
  | {
      type: 'tiles-advanced'
      collection: string
      zoom: number
      seen: number
      total: number
      tiles: number
    }
  | { type: 'tiles-finished'; collection: string; tiles: number; bytes: number; milliseconds: number }
  | { type: 'catalog-changed'; collections: number }
  | { type: 'catalog-load-failed'; error: Error }
  /** The role of the read port lacks a grant; `effect` is what is missing without it. */
  | { type: 'grant-missing'; role: string; grant: string; effect: string }
  /** A function of the database is marked as published, but filters cannot call it. */
  | { type: 'function-unpublished'; function: string; reason: string }
  /** A relation is no collection yet, because somebody locks it against readers. */
  | { type: 'relation-locked'; relation: string }
  /** The extent of a collection is not known; it is computed again after `retryMs`. */
  | { type: 'extent-unknown'; collection: string; error: Error; retryMs: number }
  | { type: 'connection-lost'; port: 'read' | 'write'; error: Error }
  /** A server on another machine does not speak TLS, or the URL forbids it: what is sent can be read on the way. */
  | { type: 'connection-unencrypted'; endpoint: string }
  /** The keys of an issuer of tokens cannot be read; those that are known go on to be used. */
  | { type: 'issuer-missing'; issuer: string; error: Error }
  | { type: 'issuer-back'; issuer: string }
  /** Answers had null or two numbers where a geometry could not be shown as it is stored; the count since the last one. */
  | { type: 'geometries-unshown'; collection: string; count: number }
  | { type: 'query-cancelled'; port: 'read' | 'write' }
  | { type: 'endpoint-down'; port: 'read' | 'write'; endpoint: string; error: Error }
  | { type: 'endpoint-up'; port: 'read' | 'write'; endpoint: string }
  | { type: 'read-retried'; endpoint: string; error: Error }
  /** A read waited until its secondary had replayed what the read had to see. */
  | { type: 'secondary-awaited'; milliseconds: number }
  | { type: 'secondary-behind'; endpoint: string }
  | { type: 'secondary-missing'; group: number; error: Error }
  | { type: 'secondary-back'; group: number }
  | { type: 'primary-missing'; group: number; error: Error }
  | { type: 'primary-back'; group: number }
  /** Another member of a node group of Citus is its primary now; both as host and port. */
  | { type: 'primary-replaced'; group: number; from: string; to: string }
  | {
      type: 'request-finished'
      id: string
      method: string
      url: string
      /** Path pattern of the route, with names for its variable parts; undefined if no route matched. */
      route: string | undefined
      status: number
      milliseconds: number
    }
  /** The request got a 503: it is valid, but could not be served at that moment. */
  | { type: 'request-refused'; id: string; method: string; url: string; code: string; error: Error }
  /** The request got a 429: its client has spent what it may. */
  | { type: 'rate-exceeded'; method: string; url: string; policy: 'requests' | 'bytes' }
  | { type: 'request-failed'; id: string; method: string; url: string; error: Error }
  /** An answer was cut: its client read too slowly, it took too long, or what it was read from failed. */
  | {
      type: 'answer-cut'
      id: string
      method: string
      url: string
      reason: 'too-slow' | 'too-long' | 'failed'
      error?: Error
    }
  /**
   * A tile was answered: as it is in memory, after a look whether something has changed, together with another request, or
   * as it was read from the database.
   */
  | { type: 'tile-served'; from: 'memory' | 'look' | 'another' | 'database' }
  | { type: 'gateway-listening'; url: string; collections: number; processes: number }
  /** Other machines can reach the gateway without TLS, which the operator has allowed. */
  | { type: 'gateway-exposed'; host: string }
  /** The gateway uses another certificate from now on. */
  | { type: 'certificate-loaded'; subject: string; ends: string }
  /** The certificate or its key has changed and cannot be used; the one in use stays. */
  | { type: 'certificate-refused'; error: Error }
  | { type: 'process-serving'; processId: number }
  | {
      type: 'process-died'
      processId: number
      code: number | null
      signal: string | null
      reason: string | undefined
    }
  | { type: 'gateway-draining'; signal: string }
  | { type: 'gateway-stopped' }

export type Emit = (event: Event) => void

/** An API key: its id, which may be shown, and its secret; underscores may be percent-encoded, as in an address. */
const KEY = /(tessera(?:_|%5f)[0-9a-f]{12})(?:_|%5f)[\w%-]+/gi
/** A parameter of an address that programs use for keys, and its value. */
const SECRET_PARAMETER =
  /([?&](?:access_token|api_?key|apikey|auth|authorization|bearer|code|key|password|secret|token)=)[^&\s"]+/gi

/** A token (JWT): its header and its claims may be shown, its signature makes it valid. */
const TOKEN = /(eyJ[\w-]{10,}\.eyJ[\w-]{2,})\.[\w-]+/g

/** Returns a text without secrets that a client has put where they do not belong, such as into an address. */
export const withoutSecrets = (text: string) =>
  text.replace(KEY, '$1_…').replace(TOKEN, '$1.…').replace(SECRET_PARAMETER, '$1…')
