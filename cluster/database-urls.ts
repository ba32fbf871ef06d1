// Owns how roles come to the cluster's database: through the proxies, encrypted, with their passwords.

import { readFileSync } from 'node:fs'
import pg from 'pg'
import type { Credentials, Role } from './credentials.ts'
import { DATABASE } from './patroni-config.ts'
import type { Balancer, Topology } from './topology.ts'

/** What a gateway connects to. */
export const GATEWAY_URLS = ['tessera_read', 'tessera_worker_read', 'tessera_write', 'tessera_owner'] as const
export type GatewayUrl = (typeof GATEWAY_URLS)[number]

/** How the gateway is told a URL: by the name of a file that nobody else reads. */
export const urlFileOf = (name: GatewayUrl) => `${name}.url`
export const urlVariableOf = (name: GatewayUrl) => `${name.toUpperCase()}_URL_FILE`

export const gatewayUrl = (topology: Topology, credentials: Credentials, name: GatewayUrl): string =>
  name === 'tessera_worker_read'
    ? workerUrls(topology, credentials)
    : databaseUrls(topology, credentials, name)

/** Where a role comes in, by each of the proxies: who reads at the read port, and there from secondaries alone. */
export const databaseUrls = (
  topology: Topology,
  credentials: Credentials,
  role: Role,
  isRead = role === 'tessera_read',
): string =>
  topology.proxies
    .map(({ host, readPort, writePort }) =>
      urlOf(topology, credentials, role, host, isRead ? readPort : writePort, isRead),
    )
    .join(',')

/** Where the secondaries of each worker group are read from, by each of the proxies; empty without workers. */
const workerUrls = (topology: Topology, credentials: Credentials): string =>
  topology.proxies
    .flatMap(({ host, groupPorts }) =>
      [...groupPorts.values()].map(({ read }) =>
        urlOf(topology, credentials, 'tessera_read', host, read, true),
      ),
    )
    .join(',')

function urlOf(
  { isCitus }: Topology,
  { passwords, authorityFile }: Credentials,
  role: Role,
  host: string,
  port: number,
  isRead: boolean,
): string {
  const url = new URL(`postgresql://${role}@${host}:${port}/${DATABASE}`)
  url.password = passwords[role]
  url.searchParams.set('sslmode', 'verify-full')
  url.searchParams.set('sslrootcert', authorityFile)
  // On a secondary Citus would read from the workers' primaries.
  if (isRead && isCitus) url.searchParams.set('options', '-c citus.use_secondary_nodes=always')
  return url.href
}

export type Where = { readonly host: string; readonly port: number; readonly database?: string }

/** @param options of the driver, beyond where to and as whom */
export async function connect(
  { passwords, authorityFile }: Credentials,
  user: Role,
  where: Where,
  options: pg.ClientConfig,
): Promise<pg.Client> {
  const client = new pg.Client({
    user,
    password: passwords[user],
    database: DATABASE,
    ssl: { ca: readFileSync(authorityFile, 'utf8') },
    application_name: 'tessera-cluster',
    ...where,
    ...options,
  })
  // A lost connection also fails the query that waits for it; without a listener it would end the process.
  client.on('error', () => {})
  await client.connect()
  return client
}

const CONNECT_TIMEOUT_MS = 5_000

/** @param portOf the port to take at the first of the proxies that answers; the coordinator's primary by default */
export async function withSuperuser<T>(
  { proxies }: Topology,
  credentials: Credentials,
  work: (client: pg.Client) => Promise<T>,
  portOf: (proxy: Balancer) => number = ({ writePort }) => writePort,
  database = DATABASE,
): Promise<T> {
  let client: pg.Client | undefined
  let failure: unknown
  for (const proxy of proxies) {
    const where = { host: proxy.host, port: portOf(proxy), database }
    const options = { connectionTimeoutMillis: CONNECT_TIMEOUT_MS }
    client = await connect(credentials, 'postgres', where, options).catch((error) => {
      failure = error
      return undefined
    })
    if (client) break
  }
  if (!client) throw failure
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}
