// Owns Patroni's configuration of each member: how PostgreSQL is set up, who may come in, when a primary is replaced.

import { readFileSync } from 'node:fs'
import type { Credentials } from './credentials.ts'
import { LOOPBACK, listenAddressOf, type Member, type Topology } from './topology.ts'

export const DATABASE = 'tessera'

export type MemberPlace = {
  /** The member's own folder. */
  readonly folder: string
  /** Undefined where PATH leads to them. */
  readonly postgresBinaries: string | undefined
  /** Where filesOf are. */
  readonly configFolder: string
}

/** The files of a member, by their names: its Patroni's configuration, and what that calls. */
export function filesOf(
  topology: Topology,
  member: Member,
  credentials: Credentials,
  place: MemberPlace,
): ReadonlyMap<string, string> {
  return new Map([
    [configurationOf(member.name), renderPatroni(topology, member, credentials, place)],
    [announcementOf(member.name), renderAnnouncement(member, credentials)],
    ...[ANNOUNCER, GUARDED_PATRONI].map((name): [string, string] => [
      name,
      readFileSync(new URL(`node/${name}`, import.meta.url), 'utf8'),
    ]),
  ])
}

export const configurationOf = (member: string) => `${member}.json`
const announcementOf = (member: string) => `${member}.announcement`
const ANNOUNCER = 'announce-primary.sh'
/** What runs instead of Patroni's own program, with the configuration as its argument. */
export const GUARDED_PATRONI = 'guarded-patroni.py'
/** The release whose transactions it replaces: another may take the leader key in another way. */
export const PATRONI_VERSION = '4.1.5'

const PATRONI_USER = 'patroni'

const dataFolder = (folder: string) => `${folder}/data`

/** In seconds; `loop_wait + 2 * retry_timeout <= ttl`, and Patroni takes no ttl below 20. */
const TIMES = { ttl: 20, loop_wait: 1, retry_timeout: 3 }

/**
 * How much of a write-ahead log a secondary may be behind and still become primary, in bytes: any. /sync says who has
 * every acknowledged change, and the log of a lost primary also has what was never acknowledged.
 */
const MAX_FAILOVER_LAG = 2 ** 50

/** YAML includes JSON: no library, and nothing to escape by hand. */
export function renderPatroni(
  topology: Topology,
  member: Member,
  credentials: Credentials,
  place: MemberPlace,
): string {
  const { folder, postgresBinaries } = place
  const { members, groups } = topology
  const { passwords, patroniPassword, authorityFile, certificateFile, keyFile } = credentials
  const listenAddress = listenAddressOf(topology)
  /** Who connects is another member's HAProxy, or one of the proxies. */
  const neighbours = topology.placement === 'loopback' ? `${LOOPBACK}/32` : 'samenet'
  const tls = { sslmode: 'verify-ca', sslrootcert: authorityFile }
  const configuration = {
    scope: topology.name,
    namespace: '/service/',
    name: member.name,
    restapi: {
      listen: `${listenAddress}:${member.patroniPort}`,
      connect_address: `${member.host}:${member.patroniPort}`,
      // Reading is for the proxies; what changes something needs a password.
      authentication: { username: PATRONI_USER, password: patroniPassword },
    },
    etcd3: {
      hosts: topology.store.map(({ host, clientPort }) => `${host}:${clientPort}`),
      protocol: 'https',
      cacert: authorityFile,
      cert: certificateFile,
      key: keyFile,
    },
    bootstrap: {
      dcs: {
        ...TIMES,
        maximum_lag_on_failover: MAX_FAILOVER_LAG,
        // A primary that crashed is replaced rather than waited for.
        primary_start_timeout: 0,
        // A commit is acknowledged when a secondary has it, and only such a one is promoted.
        // Not by quorum: then a primary that was fenced could go on acknowledging to one secondary while another
        // takes its place; see docs/decisions/0005.
        synchronous_mode: members.length > groups.length,
        // All of etcd lost: a primary goes on as long as it reaches every member of its group.
        failsafe_mode: true,
        postgresql: { use_pg_rewind: true, use_slots: true, parameters: parametersOf(topology) },
      },
      initdb: [{ encoding: 'UTF8' }, { locale: 'C.UTF-8' }, 'data-checksums'],
    },
    ...(topology.isCitus ? { citus: { group: member.group, database: DATABASE } } : {}),
    postgresql: {
      listen: `${listenAddress}:${member.postgresPort}`,
      // Through the proxies: from a member that is frozen its clients would never hear again.
      connect_address: `${LOOPBACK}:${member.connectPort}`,
      data_dir: dataFolder(folder),
      ...(postgresBinaries ? { bin_dir: postgresBinaries } : {}),
      pgpass: `${folder}/pgpass`,
      use_unix_socket: true,
      use_unix_socket_repl: true,
      authentication: {
        superuser: { username: 'postgres', password: passwords.postgres, ...tls },
        replication: { username: 'replicator', password: passwords.replicator, ...tls },
        rewind: { username: 'rewinder', password: passwords.rewinder, ...tls },
      },
      parameters: {
        unix_socket_directories: folder,
        ssl: 'on',
        ssl_cert_file: certificateFile,
        ssl_key_file: keyFile,
        ssl_ca_file: authorityFile,
        ...(topology.isCitus
          ? { 'citus.node_conninfo': `sslmode=verify-ca sslrootcert=${authorityFile}` }
          : {}),
      },
      pg_hba: [
        // Patroni, whatever the account that it runs as; and as replicator it asks for its own place in the log.
        'local all postgres scram-sha-256',
        'local replication replicator scram-sha-256',
        // Encrypted, with a password, and for what each role is there for.
        `hostssl replication replicator ${neighbours} scram-sha-256`,
        `hostssl postgres rewinder ${neighbours} scram-sha-256`,
        `hostssl all postgres ${neighbours} scram-sha-256`,
        `hostssl ${DATABASE} tessera_owner,tessera_write,tessera_read ${neighbours} scram-sha-256`,
      ],
      ...(member.group > 0 ? { callbacks: { on_role_change: announcer(topology, member, place) } } : {}),
      // A base copy begins at once, not with the next checkpoint in minutes.
      basebackup: [{ checkpoint: 'fast' }],
      remove_data_directory_on_rewind_failure: true,
      remove_data_directory_on_diverged_timelines: true,
    },
    watchdog: { mode: 'off' },
  }
  return `${JSON.stringify(configuration, null, 2)}\n`
}

/** How node/announce-primary.sh is called where the member is a worker's. */
function announcer(
  { groups }: Topology,
  { name }: Member,
  { folder, configFolder, postgresBinaries }: MemberPlace,
): string {
  const coordinators = groups[0]!.members.map(({ host, patroniPort }) => `${host}:${patroniPort}`)
  const controldata = postgresBinaries ? `${postgresBinaries}/pg_controldata` : 'pg_controldata'
  const script = `${configFolder}/${ANNOUNCER}`
  const request = `${configFolder}/${announcementOf(name)}`
  return ['bash', script, request, dataFolder(folder), controldata, ...coordinators]
    .map((word) => `'${word}'`)
    .join(' ')
}

/** What a worker's new primary says to the coordinators, as a whole request: what Patroni says itself, later. */
export function renderAnnouncement({ group, name }: Member, { patroniPassword }: Credentials): string {
  const { ttl, retry_timeout } = TIMES
  const event = { type: 'after_promote', group, leader: name, timeout: ttl, cooldown: retry_timeout }
  const body = JSON.stringify(event)
  const authorization = Buffer.from(`${PATRONI_USER}:${patroniPassword}`).toString('base64')
  const headers = [
    'POST /citus HTTP/1.0',
    `Authorization: Basic ${authorization}`,
    `Content-Length: ${body.length}`,
  ]
  return `${headers.join('\r\n')}\r\n\r\n${body}`
}

const parametersOf = ({ isCitus, members }: Topology) => ({
  // Those of three gateways with two processes each, for reading, streams and writing, through either proxy; on a
  // worker all of them may want one at a time, and what another node has for distributed transactions.
  max_connections: 300,
  // Small: many members share a machine here.
  shared_buffers: '64MB',
  password_encryption: 'scram-sha-256',
  wal_log_hints: 'on',
  max_wal_senders: members.length + 4,
  max_replication_slots: members.length + 4,
  hot_standby_feedback: 'on',
  // A secondary that says nothing is given up after this, and a primary waits no longer for it.
  wal_sender_timeout: '5s',
  wal_receiver_timeout: '5s',
  wal_receiver_status_interval: '1s',
  // A dead peer is noticed by its silence, in milliseconds.
  tcp_user_timeout: 6000,
  tcp_keepalives_idle: 5,
  tcp_keepalives_interval: 1,
  tcp_keepalives_count: 5,
  log_line_prefix: '%m [%p] %q%u@%d ',
  ...(isCitus
    ? {
        max_prepared_transactions: 200,
        'citus.node_connection_timeout': 1000,
        // What was left of a distributed transaction by a failure is settled within this.
        'citus.recover_2pc_interval': '5s',
        'citus.shard_count': 12,
      }
    : {}),
})
