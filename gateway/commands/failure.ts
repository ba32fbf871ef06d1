// Owns the message that a person gets when a command fails.

import { GatewayError, UserError } from '../errors.ts'

/** Returns the message of an expected failure; anything else is a bug, and its stack is returned. */
export function describeFailure(error: unknown): string {
  if (error instanceof UserError) return error.message
  if (error instanceof GatewayError)
    return error.cause ? `${error.message} (${(error.cause as Error).message})` : error.message
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
