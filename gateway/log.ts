// Owns the log of events: JSON lines on standard output.

import { pino } from 'pino'
import { type Emit, type Event, withoutSecrets } from './events.ts'

type Level = 'debug' | 'info' | 'warn' | 'error'

const LEVELS: Partial<Record<Event['type'], Level>> = {
  'embedded-recovered': 'warn',
  'archive-missing': 'warn',
  'embedded-died': 'error',
  'database-awaited': 'warn',
  'import-advanced': 'debug',
  'export-advanced': 'debug',
  'tiles-advanced': 'debug',
  'import-skipped-feature': 'warn',
  'import-left-out-ids': 'warn',
  'import-noted': 'warn',
  'catalog-load-failed': 'error',
  'grant-missing': 'warn',
  'function-unpublished': 'warn',
  'relation-locked': 'warn',
  'extent-unknown': 'warn',
  'connection-lost': 'warn',
  'connection-unencrypted': 'warn',
  'geometries-unshown': 'warn',
  'query-cancelled': 'debug',
  'endpoint-down': 'warn',
  'read-retried': 'warn',
  'secondary-awaited': 'debug',
  'secondary-behind': 'debug',
  'secondary-missing': 'warn',
  'primary-missing': 'warn',
  'issuer-missing': 'warn',
  'request-finished': 'debug',
  'tile-served': 'debug',
  // If the database is down or overloaded, there are too many of these to read.
  'request-refused': 'debug',
  'answer-cut': 'debug',
  'rate-exceeded': 'debug',
  'request-failed': 'error',
  'gateway-exposed': 'warn',
  'certificate-refused': 'error',
  'process-died': 'error',
}

/** Opens the log. @returns the function to which every part of Tessera sends its events */
export function openLog(level: string): Emit {
  const output = pino.destination({ dest: 1, sync: true })
  const log = pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    { write: (line) => void output.write(withoutSecrets(line)) },
  )
  return (event) => {
    const level = LEVELS[event.type] ?? 'info'
    if (!log.isLevelEnabled(level)) return
    const { type, ...facts } = event
    const shown = 'error' in facts ? { ...facts, error: undefined, err: describe(facts.error) } : facts
    log[level](shown, type)
  }
}

/** Returns only the known members of an error, because drivers attach whole connections with secrets to errors. */
function describe(error: Error & { code?: unknown; severity?: unknown }): Record<string, unknown> {
  const { name, message, code, severity, stack, cause } = error
  return { name, message, code, severity, stack, cause: cause instanceof Error ? describe(cause) : undefined }
}
