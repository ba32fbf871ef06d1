// Owns how roles come to the cluster's database: through the proxies, encrypted, with their passwords.

import { readFileSync } from 'node:fs'
import pg from 'pg'
import type { Credentials, Role } from './credentials.ts'
import { DATABASE } from './patroni.ts'
import type { Topology } from './topology.ts'

export type UrlRole = Extract<Role, `tessera_${string}`>

/** Where a role comes in: who reads at the read port, and there from secondaries alone. */
export function databaseUrl(
  { address, proxies, isCitus }: Topology,
  { passwords, authorityFile }: Credentials,
  role: UrlRole,
) {
  const { readPort, writePort } = proxies[0]!
  const isRead = role === 'tessera_read'
  const url = new URL(`postgresql://${role}@${address}:${isRead ? readPort : writePort}/${DATABASE}`)
  url.password = passwords[role]
  url.searchParams.set('sslmode', 'verify-full')
  url.searchParams.set('sslrootcert', authorityFile)
  // On a secondary of the coordinator Citus would read from the workers' primaries.
  if (isRead && isCitus) url.searchParams.set('options', '-c citus.use_secondary_nodes=always')
  return url.href
}

/** @param options of the driver, beyond where to and as whom */
export async function connect(
  { address }: Topology,
  { passwords, authorityFile }: Credentials,
  user: Role,
  options: pg.ClientConfig,
): Promise<pg.Client> {
  const client = new pg.Client({
    host: address,
    user,
    password: passwords[user],
    database: DATABASE,
    ssl: { ca: readFileSync(authorityFile, 'utf8') },
    application_name: 'tessera-cluster',
    ...options,
  })
  // A lost connection also fails the query that waits for it; without a listener it would end the process.
  client.on('error', () => {})
  await client.connect()
  return client
}

export async function withSuperuser<T>(
  topology: Topology,
  credentials: Credentials,
  where: { readonly port: number; readonly database?: string },
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = await connect(topology, credentials, 'postgres', {
    connectionTimeoutMillis: 5_000,
    ...where,
  })
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}
