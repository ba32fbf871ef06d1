// Owns the message that a person gets when a command fails.

import { ConfigError } from '../config.ts'
import { EmbeddedError } from '../database/embedded.ts'
import { MigrationError } from '../database/migrate.ts'
import { GatewayError } from '../errors.ts'
import { ImportError } from '../features/import/import-error.ts'
import { ProcessError } from '../processes.ts'

/** Returns the message of an expected failure; anything else is a bug, and its stack is returned. */
export function describeFailure(error: unknown): string {
  if (
    [ConfigError, EmbeddedError, MigrationError, ImportError, ProcessError].some(
      (kind) => error instanceof kind,
    )
  ) {
    return (error as Error).message
  }
  if (error instanceof GatewayError)
    return error.cause ? `${error.message} (${(error.cause as Error).message})` : error.message
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
