// Owns how roles connect to the cluster's database: through the proxies, over TLS, with their passwords.

import { readFileSync } from 'node:fs'
import pg from 'pg'
import type { Credentials, Role } from './credentials.ts'
import { DATABASE } from './patroni-config.ts'
import type { Balancer, Topology } from './topology.ts'

/** Names of the URLs that a gateway connects to. */
export const GATEWAY_URLS = ['tessera_read', 'tessera_worker_read', 'tessera_write'] as const
/** The URL of the role that owns tables, for commands; no gateway has it. */
export const OWNER_URL = 'tessera_owner'
export type GatewayUrl = (typeof GATEWAY_URLS)[number] | typeof OWNER_URL

/** Returns the name of the file from which the gateway reads a URL; other accounts cannot read the file. */
export const urlFileOf = (name: GatewayUrl) => `${name}.url`
export const urlVariableOf = (name: GatewayUrl) => `${name.toUpperCase()}_URL_FILE`

export const gatewayUrl = (topology: Topology, credentials: Credentials, name: GatewayUrl): string =>
  name === 'tessera_worker_read'
    ? workerUrls(topology, credentials)
    : databaseUrls(topology, credentials, name)

/** Returns a URL of the role for each proxy. Reads use the read port, and on Citus only secondaries of the workers. */
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

/** Returns the URLs of each worker group's read port, for each proxy; empty without workers. */
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
  // Without this, Citus on a secondary would read from the workers' primaries.
  if (isRead && isCitus) url.searchParams.set('options', '-c citus.use_secondary_nodes=always')
  return url.href
}

export type Where = { readonly host: string; readonly port: number; readonly database?: string }

/** Opens a connection. @param options of the driver, in addition to the address and the user */
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

/** Returns the port of a group's primary at a proxy. @param group its number */
export const primaryPortOf =
  (group: number) =>
  ({ writePort, groupPorts }: Balancer) =>
    group === 0 ? writePort : groupPorts.get(group)!.write

/** Connects through the first proxy that responds. @param portOf its port */
async function open(
  { proxies }: Topology,
  credentials: Credentials,
  role: Role,
  portOf: (proxy: Balancer) => number,
  database: string,
): Promise<pg.Client> {
  let failure: unknown
  for (const proxy of proxies) {
    const where = { host: proxy.host, port: portOf(proxy), database }
    try {
      return await connect(credentials, role, where, { connectionTimeoutMillis: CONNECT_TIMEOUT_MS })
    } catch (error) {
      failure = error
    }
  }
  throw failure
}

/** Connects as superuser. @param portOf the port at a proxy, by default of the coordinator's primary */
export const openSuperuser = (
  topology: Topology,
  credentials: Credentials,
  portOf = primaryPortOf(0),
  database = DATABASE,
): Promise<pg.Client> => open(topology, credentials, 'postgres', portOf, database)

/** Connects to the coordinator's primary as the role that owns Tessera's tables. */
export const openOwner = (topology: Topology, credentials: Credentials): Promise<pg.Client> =>
  open(topology, credentials, 'tessera_owner', primaryPortOf(0), DATABASE)

/** Connects as openSuperuser does, for as long as `work` takes. */
export async function withSuperuser<T>(
  topology: Topology,
  credentials: Credentials,
  work: (client: pg.Client) => Promise<T>,
  portOf = primaryPortOf(0),
  database = DATABASE,
): Promise<T> {
  const client = await openSuperuser(topology, credentials, portOf, database)
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}
