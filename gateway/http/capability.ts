// Owns whether features of a collection can be created, changed or removed, and the reason if they cannot.

import { gatewayError } from '../errors.ts'
import type { Capabilities, Collection } from '../features/collections/collection.ts'
import type { VisibleCollections } from './visible.ts'

export type Capability = keyof Capabilities & `can${string}`

/**
 * Returns why a collection does not take a change; undefined if it does.
 * @throws GatewayError database-unavailable as long as that is not known
 */
export function reasonAgainst(
  { id, idColumn, capabilities }: Collection,
  capability: Capability,
  visible: VisibleCollections,
): string | undefined {
  if (capabilities?.[capability]) return undefined
  if (!visible.knowsCapabilities)
    throw gatewayError(
      'database-unavailable',
      'No primary has answered since this gateway started; try again.',
    )
  if (capabilities) return `the gateway's database role may not do this to the table of ${id}`
  return idColumn
    ? `features of ${id} can only be read`
    : `features of ${id} have no key of a single column, by which they could be found again`
}
