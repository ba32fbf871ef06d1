// Owns finding the address of a name without waiting for other look-ups. The operating system's look-up occupies one of
// libuv's few threads until the resolver responds. A container engine may take 20 s for a name that is gone, and every
// other look-up of the process would wait, too.

import { Resolver } from 'node:dns/promises'
import type { LookupFunction } from 'node:net'

const TIMEOUT_MS = 500

const resolver = new Resolver({ timeout: TIMEOUT_MS, tries: 1 })

/** Look-up for the `lookup` option of node:http, which does not call it for addresses. @see dns.lookup */
export const lookUp: LookupFunction = (host, { all }, callback) => {
  resolver.resolve4(host).then(
    ([address]) => (all ? callback(null, [{ address: address!, family: 4 }]) : callback(null, address!, 4)),
    (error) => callback(error, ''),
  )
}
