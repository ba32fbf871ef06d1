// Owns finding the address of a name without waiting behind others. The system's own way takes one of libuv's few
// threads for as long as a resolver says nothing: an engine of containers may take 20 s over a name that is gone, and
// then every other look-up of the process waits, too.

import { Resolver } from 'node:dns/promises'
import type { LookupFunction } from 'node:net'

const TIMEOUT_MS = 500

const resolver = new Resolver({ timeout: TIMEOUT_MS, tries: 1 })

/** For the `lookup` of node:http, which does not ask it for what is an address already. @see dns.lookup */
export const lookUp: LookupFunction = (host, { all }, callback) => {
  resolver.resolve4(host).then(
    ([address]) => (all ? callback(null, [{ address: address!, family: 4 }]) : callback(null, address!, 4)),
    (error) => callback(error, ''),
  )
}
