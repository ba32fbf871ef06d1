// Owns a relay to a database, whose connections a test can break, freeze and restore.

import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import pg from 'pg'

export interface Relay {
  /** The given URL, but leading through the relay. */
  readonly url: string
  /** Number of connections that clients have opened so far. */
  readonly calls: number
  /** Closes all connections, and from now on closes each new one at once. */
  cut(): void
  /** Closes all connections; new ones are served as before. */
  interrupt(): void
  /** Stops forwarding in both directions, without closing a connection. */
  freeze(): void
  /**
   * Serves new connections again. Those that were frozen forward nothing any more.
   * @param doesHangUp whether the frozen ones are closed, so that their clients notice
   */
  mend(doesHangUp?: boolean): void
  close(): Promise<void>
}

export async function openRelay(url: string): Promise<Relay> {
  const { host, port, user, password, database } = new pg.Client({ connectionString: url })
  const call = () => (host.startsWith('/') ? connect(`${host}/.s.PGSQL.${port}`) : connect(port, host))
  let state: 'open' | 'cut' | 'frozen' = 'open'
  let calls = 0
  const sockets = new Set<Socket>()
  const lost = new WeakSet<Socket>()
  const server = createServer((caller) => {
    calls++
    sockets.add(caller)
    caller.on('error', () => {}).on('close', () => sockets.delete(caller))
    if (state === 'cut') return caller.destroy()
    if (state === 'frozen') return caller.pause()
    const called = call()
    sockets.add(called)
    const isLost = () => state === 'frozen' || lost.has(caller)
    called.on('error', () => {}).on('close', () => sockets.delete(called))
    for (const [from, to] of [
      [caller, called],
      [called, caller],
    ] as const) {
      from.on('data', (chunk) => {
        if (!isLost()) to.write(chunk)
      })
      from.on('close', () => {
        if (!isLost()) to.destroy()
      })
    }
    return undefined
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const hangUp = () => {
    for (const socket of sockets) socket.destroy()
  }
  const role = [user, password].filter((part) => part).map((part) => encodeURIComponent(part!))
  const parameters = new URLSearchParams(url.split('?')[1])
  for (const name of ['host', 'port']) parameters.delete(name)
  const address = server.address() as { port: number }
  return {
    url: `postgresql://${role.join(':')}@127.0.0.1:${address.port}/${database}?${parameters}`,
    get calls() {
      return calls
    },
    cut() {
      state = 'cut'
      hangUp()
    },
    interrupt: hangUp,
    freeze() {
      state = 'frozen'
      for (const socket of sockets) lost.add(socket)
    },
    mend(doesHangUp = true) {
      if (state === 'frozen' && doesHangUp) hangUp()
      state = 'open'
    },
    async close() {
      hangUp()
      server.close()
      await once(server, 'close')
    },
  }
}
