// Owns TLS with servers whose URLs do not decide about it: it is used where a server on another machine speaks it.

import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import pg from 'pg'

/** Parameters with which a URL decides about TLS. */
const DECIDING = ['ssl', 'sslmode', 'sslnegotiation', 'sslcert', 'sslkey', 'sslrootcert'] as const

/** True for a host of another machine, as the driver names it. */
export const isElsewhere = (host: string) => !/^(\/|localhost$|127\.|::1$|\[::1\]$)/.test(host)

/** Members of the driver's connection that its types do not declare. */
interface Negotiating extends pg.Connection {
  ssl: boolean | object
  connect(port: number, host: string): void
  attachListeners(stream: Socket): void
}
const Connection = pg.Connection as unknown as new (config: object) => Negotiating

/** Answer of a server that does not speak TLS. */
const NO_TLS = 'N'

/**
 * A connection that is encrypted if the server speaks TLS, and goes on without TLS if it does not, as libpq's `prefer`.
 * The certificate is not checked: that protects against listeners, and not against somebody who takes the server's place.
 */
class PreferringConnection extends Connection {
  override connect(port: number, host: string) {
    super.connect(port, host)
    const stream = this.stream as Socket
    const [negotiate] = stream.listeners('data') as [(answer: Buffer) => void]
    stream.removeListener('data', negotiate)
    stream.once('data', (answer: Buffer) => {
      if (answer.toString('latin1') !== NO_TLS) return negotiate.call(stream, answer)
      this.ssl = false
      this.attachListeners(stream)
      this.emit('sslconnect')
    })
  }
}

const UNCHECKED = { rejectUnauthorized: false }

/** Returns the options of the driver for a connection to this URL, besides the URL itself; a new object for each one. */
export function encryptionOf(url: string): pg.ClientConfig {
  const parameters = new URLSearchParams(url.split('?', 2)[1])
  if (DECIDING.some((name) => parameters.has(name))) return {}
  const { host, ssl } = new pg.Client({ connectionString: url })
  // The driver reads PGSSLMODE by itself.
  if (ssl || !isElsewhere(host)) return {}
  const connection = new PreferringConnection({ ssl: UNCHECKED, keepAlive: true })
  return { ssl: UNCHECKED, connection } as pg.ClientConfig
}

/** True if what a connection sends to another machine can be read on the way. */
export function isExposed(client: pg.ClientBase): boolean {
  const { host, connection } = client as unknown as { host: string; connection: { stream: TLSSocket } }
  return isElsewhere(host) && connection.stream.encrypted !== true
}
