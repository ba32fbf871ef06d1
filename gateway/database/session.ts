// Owns one connection of the owner role, for work of several statements: migrations and imports.

import type { Writable } from 'node:stream'
import pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import { connectToFirst, splitUrls } from './addresses.ts'
import { encryptionOf } from './encryption.ts'
import { ADD_POSTGIS } from './search-path.ts'

export interface Session {
  /** Returns rows as objects with parsed values. */
  query<T extends object>(text: string, values?: readonly unknown[]): Promise<T[]>
  /** Runs `work` in a transaction: committed when it returns, rolled back when it throws. */
  transaction<T>(work: () => Promise<T>): Promise<T>
  /** Opens a stream into `COPY … FROM STDIN`, which finishes when the server has taken all rows. */
  copyInto(text: string): Writable
  close(): Promise<void>
}

/** Time limit to connect, for all addresses together, and for Citus to connect to a node. */
const CONNECT_TIMEOUT_MS = 10_000

/**
 * Opens a session.
 * @param url one URL or several, see addresses.ts
 * @throws the driver's error if no server can be reached, or if it refuses
 */
export async function openSession(url: string, applicationName: string): Promise<Session> {
  const urls = splitUrls(url)
  const timeoutMs = Math.ceil(CONNECT_TIMEOUT_MS / urls.length)
  const client = await connectToFirst(urls, (one) => connect(one, timeoutMs, applicationName))
  return {
    async query<T extends object>(text: string, values?: readonly unknown[]): Promise<T[]> {
      // Without values the simple protocol is used, which takes several statements at once.
      const result = await (values ? client.query(text, values as unknown[]) : client.query(text))
      return (result.rows ?? []) as T[]
    },
    async transaction(work) {
      await client.query('begin')
      try {
        const result = await work()
        await client.query('commit')
        return result
      } catch (error) {
        // The connection may be gone, and the transaction with it; the first error is the one to report.
        await client.query('rollback').catch(() => {})
        throw error
      }
    },
    copyInto: (text) => client.query(copyFrom(text)),
    close: () => client.end(),
  }
}

async function connect(url: string, timeoutMs: number, applicationName: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: url,
    ...encryptionOf(url),
    connectionTimeoutMillis: timeoutMs,
    application_name: `tessera-${applicationName}`,
    keepAlive: true,
    // A session whose client is gone must not keep its locks. Work of several statements is not given up because a busy
    // node takes longer to accept a connection than a request may wait.
    options: `-c client_connection_check_interval=1000 -c TimeZone=UTC -c client_min_messages=warning -c citus.node_connection_timeout=${CONNECT_TIMEOUT_MS}`,
  })
  // A connection that breaks also fails its running query; without a listener the event would end the process.
  client.on('error', () => {})
  await client.connect()
  await client.query(`select ${ADD_POSTGIS}`)
  return client
}
