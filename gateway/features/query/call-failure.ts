// Owns the error of a request whose filter calls a published function that fails.

import { codeOfRaised } from '../../database/outcome.ts'
import { gatewayError } from '../../errors.ts'
import type { ItemQuery } from './item-query.ts'

/** Returns the error of a read; it names the published functions if one of them may have raised it. */
export function nameCalls(error: unknown, { calls }: Pick<ItemQuery, 'calls'>): unknown {
  const code = calls.length > 0 ? codeOfRaised(error) : undefined
  if (code === undefined) return error
  return gatewayError(
    'parameter-invalid',
    `${calls.length > 1 ? 'One of the functions' : 'The function'} ${calls.join(', ')} failed for a feature (SQLSTATE ${code}); its owner can tell why.`,
    { parameter: 'filter' },
    error as Error,
  )
}
