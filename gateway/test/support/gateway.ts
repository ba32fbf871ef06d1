// Owns a gateway for one test file: the real one, on a free port, with the run's database.

import { after } from 'node:test'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import type { Database } from '../../database/contract.ts'
import { openDatabase } from '../../database/database.ts'
import { openSession, type Session } from '../../database/session.ts'
import type { Event } from '../../events.ts'
import { type Catalog, openCatalog } from '../../features/collections/catalog.ts'
import { makeMetrics } from '../../http/metrics.ts'
import { makeCertificate, tlsFlags } from './certificate.ts'
import { type Client, makeClient } from './client.ts'
import { testDatabase } from './database.ts'
import { openHttp2 } from './http2.ts'

export type TestGateway = {
  readonly client: Client
  readonly database: Database
  readonly catalog: Catalog
  readonly events: Event[]
  /** A session as the owner of the tables. */
  readonly session: Session
}

/** @param args flags of `tessera serve`, as in `--pool-size=2` */
export const startGateway = (...args: string[]) => startGatewayOn({}, ...args)

/**
 * With TESSERA_TEST_HTTP=2, gateways serve TLS and the tests' client speaks HTTP/2: `npm run test:http2`. What sends
 * requests by itself then uses HTTP/1.1 over TLS.
 */
const secured = process.env.TESSERA_TEST_HTTP === '2' ? makeCertificate() : undefined
if (secured) setDefaultCACertificates([...getCACertificates(), secured.cert.toString()])

/** Starts a gateway that finds some of the run's addresses elsewhere. */
export async function startGatewayOn(
  elsewhere: Partial<ReturnType<typeof testDatabase>>,
  ...args: string[]
): Promise<TestGateway> {
  const { config } = readConfig([...(secured ? tlsFlags(secured) : []), ...args], {}, {})
  const events: Event[] = []
  const metrics = makeMetrics()
  const emit = (event: Event) => {
    events.push(event)
    metrics.observe(event)
  }
  const { ownerUrl, ...urls } = { ...testDatabase(), ...elsewhere }
  // Also closes what was opened before another step failed: it would keep the process and the run from ending.
  const closers: (() => unknown)[] = []
  after(async () => {
    for (const close of closers.toReversed()) await close()
  })
  const session = await openSession(ownerUrl, 'test')
  closers.push(() => session.close())
  const database = openDatabase({ ...config, ...urls, emit })
  closers.push(() => database.close())
  const catalog = await openCatalog({ database, ...config, emit })
  closers.push(() => catalog.close())
  metrics.watch(database)
  const readMetrics = () => metrics.registry.metrics()
  const app = await buildApp({ config, database, catalog, emit, readMetrics, isDraining: () => false })
  closers.push(() => app.close())
  const address = await app.listen({ host: '127.0.0.1', port: 0 })
  const url = secured ? address.replace('http:', 'https:') : address
  const http2 = secured && openHttp2(secured.cert)
  closers.push(() => http2?.close())
  return { client: makeClient(url, http2), database, catalog, events, session }
}
