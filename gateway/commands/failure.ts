// Owns what a person is told when a command fails.

import { ConfigError } from '../config.ts'
import { EmbeddedError } from '../database/embedded.ts'
import { MigrationError } from '../database/migrate.ts'
import { GatewayError } from '../errors.ts'
import { ImportError } from '../features/import/import.ts'
import { ProcessError } from '../processes.ts'

/** Failures that are told in a sentence; anything else is a bug and shows where it happened. */
export function explain(error: unknown): string {
  if (
    [ConfigError, EmbeddedError, MigrationError, ImportError, ProcessError].some(
      (kind) => error instanceof kind,
    )
  ) {
    return (error as Error).message
  }
  if (error instanceof GatewayError && error.cause)
    return `${error.message} (${(error.cause as Error).message})`
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
