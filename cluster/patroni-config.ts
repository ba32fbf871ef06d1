// Owns Patroni's configuration of each member: how PostgreSQL is set up, which roles may connect, and
// when a primary is replaced.

import { readFileSync } from 'node:fs'
import { quote, type Repository, renderPgBackRest } from './backup/pgbackrest-config.ts'
import type { Credentials } from './credentials.ts'
import { LOOPBACK, listenAddressOf, type Member, type Topology } from './topology.ts'

export const DATABASE = 'tessera'

export type MemberPlace = {
  /** The member's own folder. */
  readonly folder: string
  /** Folder of PostgreSQL's programs; undefined if they are in the PATH. */
  readonly postgresBinaries: string | undefined
  /** Folder of the files that filesOf returns. */
  readonly configFolder: string
  /** What the log is archived with; undefined if the cluster has no backups. */
  readonly archive?: Archive | undefined
  /** What a group without data begins with; undefined if it begins empty. */
  readonly recovery?: Recovery | undefined
}

type Archive = {
  /** pgBackRest. */
  readonly program: string
  readonly repository: Repository
}

export type Recovery = Archive & {
  /** Restore point of all groups at which the recovery ends. */
  readonly point: string
  /** By the name of each group, the backup to begin with. */
  readonly sets: Readonly<Record<string, string>>
}

/** Returns the files of a member by name: the configuration of its Patroni, and what Patroni runs and sends. */
export function filesOf(
  topology: Topology,
  member: Member,
  credentials: Credentials,
  place: MemberPlace,
): ReadonlyMap<string, string> {
  const { archive, recovery, folder } = place
  const pgbackrest = ({ repository }: Archive) =>
    renderPgBackRest(repository, groupOf(topology, member).name, folder, [
      { dataFolder: dataFolder(folder), socketFolder: folder, port: member.postgresPort },
    ])
  return new Map([
    [configurationOf(member.name), renderPatroni(topology, member, credentials, place)],
    [announcementOf(member.name), renderAnnouncement(member, credentials)],
    ...(archive ? [[ARCHIVE_CONFIGURATION, pgbackrest(archive)] as const] : []),
    ...(recovery
      ? [
          [RECOVERY_CONFIGURATION, pgbackrest(recovery)] as const,
          [RECOVERY_STATEMENTS, renderNodes(topology)] as const,
        ]
      : []),
    ...[ANNOUNCER, GUARDED_PATRONI, ...(archive ? [ARCHIVER] : [])].map((name): [string, string] => [
      name,
      readFileSync(new URL(`node/${name}`, import.meta.url), 'utf8'),
    ]),
  ])
}

export const configurationOf = (member: string) => `${member}.json`
const announcementOf = (member: string) => `${member}.announcement`
const ANNOUNCER = 'announce-primary.sh'
const ARCHIVER = 'archive-segment.sh'
const ARCHIVE_CONFIGURATION = 'archive.conf'
const RECOVERY_CONFIGURATION = 'recovery.conf'
const RECOVERY_STATEMENTS = 'recovery.sql'
/** Files that a member needs only until it is restored. */
export const RECOVERY_FILES = [RECOVERY_CONFIGURATION, RECOVERY_STATEMENTS]
/** Program that runs instead of Patroni's own, with the configuration as its argument. */
export const GUARDED_PATRONI = 'guarded-patroni.py'
/** Release whose transactions guarded-patroni.py replaces: another one may take the leader key in another way. */
export const PATRONI_VERSION = '4.1.5'

const PATRONI_USER = 'patroni'

const dataFolder = (folder: string) => `${folder}/data`
const groupOf = ({ groups }: Topology, { group }: Member) => groups[group]!

/** Seconds. `loop_wait + 2 * retry_timeout <= ttl` must hold, and Patroni accepts no ttl below 20. */
const TIMES = { ttl: 20, loop_wait: 1, retry_timeout: 3 }

/**
 * Bytes of the log that a secondary may lack and still become primary: practically unlimited. /sync names the members
 * that have every acknowledged change, and the log of a lost primary also contains what was never acknowledged.
 */
const MAX_FAILOVER_LAG = 2 ** 50

/** Renders the configuration as JSON, which is also YAML: that needs no library and no escaping by hand. */
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
  /** Addresses of the clients of PostgreSQL: HAProxys of other members, or the proxies. */
  const neighbours = topology.placement === 'loopback' ? `${LOOPBACK}/32` : 'samenet'
  const tls = { sslmode: 'verify-ca', sslrootcert: authorityFile }
  const configuration = {
    scope: topology.name,
    namespace: '/service/',
    name: member.name,
    restapi: {
      listen: `${listenAddress}:${member.patroniPort}`,
      connect_address: `${member.host}:${member.patroniPort}`,
      // Proxies read without a password; a request that changes something needs it.
      authentication: { username: PATRONI_USER, password: patroniPassword },
      // Each connection holds a thread until its request has come. By default there are five: as many connections that
      // send nothing, which a frozen proxy leaves behind, make a healthy primary look silent, and it is fenced.
      thread_pool_size: 64,
      request_queue_size: 128,
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
        // A commit is acknowledged when a secondary has it, and only such a secondary is promoted. In quorum mode a
        // fenced primary could go on acknowledging with one secondary while another one takes its place; see
        // docs/decisions/0005.
        synchronous_mode: members.length > groups.length,
        // If all of etcd is lost, a primary goes on as long as it reaches every member of its group.
        failsafe_mode: true,
        postgresql: { use_pg_rewind: true, use_slots: true, parameters: parametersOf(topology) },
      },
      initdb: [
        { encoding: 'UTF8' },
        { locale: 'C.UTF-8' },
        'data-checksums',
        ...(place.archive ? [{ 'wal-segsize': ARCHIVED_SEGMENT_MIB }] : []),
      ],
      ...(place.recovery ? recoveryOf(topology, member, place.recovery, place) : {}),
    },
    ...(topology.isCitus ? { citus: { group: member.group, database: DATABASE } } : {}),
    postgresql: {
      listen: `${listenAddress}:${member.postgresPort}`,
      // Others connect through HAProxy, which closes connections to a frozen member; they would wait for it forever.
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
        ...(place.archive ? archivingOf(topology, member, place.archive, place) : {}),
      },
      pg_hba: [
        // Patroni, whatever account it runs as. As replicator it queries its own position in the log.
        'local all postgres scram-sha-256',
        'local replication replicator scram-sha-256',
        // Other connections use TLS and a password, each role only for its purpose.
        `hostssl replication replicator ${neighbours} scram-sha-256`,
        `hostssl postgres rewinder ${neighbours} scram-sha-256`,
        `hostssl all postgres ${neighbours} scram-sha-256`,
        `hostssl ${DATABASE} tessera_owner,tessera_write,tessera_read ${neighbours} scram-sha-256`,
      ],
      ...(member.group > 0 ? { callbacks: { on_role_change: announcer(topology, member, place) } } : {}),
      // A base copy starts at once, and does not wait minutes for the next checkpoint.
      basebackup: [{ checkpoint: 'fast' }],
      remove_data_directory_on_rewind_failure: true,
      remove_data_directory_on_diverged_timelines: true,
    },
    watchdog: { mode: 'off' },
  }
  return `${JSON.stringify(configuration, null, 2)}\n`
}

/**
 * MiB of a file of the log, if it is archived. A restore point finishes one every few seconds, and PostgreSQL writes the
 * rest of it as zeros, on each member; with the usual 16 MiB that would be four times as much.
 */
const ARCHIVED_SEGMENT_MIB = '4'

/** Returns the settings with which each member archives its log, or keeps it until the primary has; see the script. */
function archivingOf(
  topology: Topology,
  member: Member,
  { program, repository }: Archive,
  { folder, configFolder, postgresBinaries }: MemberPlace,
) {
  const stanza = groupOf(topology, member).name
  const words = [
    `${configFolder}/${ARCHIVER}`,
    `${repository.folder}/archive/${stanza}`,
    postgresBinaries ? `${postgresBinaries}/pg_controldata` : 'pg_controldata',
    dataFolder(folder),
    program,
    `${configFolder}/${ARCHIVE_CONFIGURATION}`,
    stanza,
  ]
  return {
    archive_mode: 'always',
    // PostgreSQL replaces %p and %f.
    archive_command: `bash ${words.map((word) => quote(word).replaceAll('%', '%%')).join(' ')} '%p' '%f'`,
  }
}

/** Returns how Patroni creates a group from a backup: up to a restore point, and on a timeline of its own from there. */
function recoveryOf(
  topology: Topology,
  member: Member,
  { program, point, sets }: Recovery,
  { folder, configFolder, postgresBinaries }: MemberPlace,
) {
  const stanza = groupOf(topology, member).name
  const pgbackrest = [program, `--config=${configFolder}/${RECOVERY_CONFIGURATION}`, `--stanza=${stanza}`]
  const render = (words: readonly string[]) => words.map(quote).join(' ')
  const data = dataFolder(folder)
  const psql = postgresBinaries ? `${postgresBinaries}/psql` : 'psql'
  return {
    method: 'backup',
    backup: {
      // pgBackRest needs the folder to exist.
      command: render([
        'bash',
        '-c',
        'mkdir -p -m 700 "$0" && exec "$@"',
        data,
        ...pgbackrest,
        `--set=${sets[stanza]}`,
        '--type=none',
        'restore',
      ]),
      no_params: true,
      recovery_conf: {
        restore_command: `${render(pgbackrest).replaceAll('%', '%%')} archive-get '%f' '%p'`,
        recovery_target_name: point,
        recovery_target_timeline: 'latest',
        recovery_target_action: 'promote',
      },
    },
    ...(topology.isCitus
      ? {
          post_init: render([
            psql,
            '-X',
            '-q',
            '-v',
            'ON_ERROR_STOP=1',
            '-f',
            `${configFolder}/${RECOVERY_STATEMENTS}`,
          ]),
        }
      : {}),
  }
}

/**
 * Renders the statements that a restored node runs before it serves. Its tables name the nodes of the cluster that was
 * backed up, which may still run, and have its passwords. Each group gets the address of its first member; Patroni
 * replaces that by its primary's, and registers the secondaries. The passwords are in a passfile.
 */
export function renderNodes({ groups }: Topology): string {
  const addresses = groups.map(({ number, members }) => `(${number}, ${members[0]!.connectPort})`).join(', ')
  return `\\connect ${DATABASE}
begin;
delete from pg_dist_authinfo;
delete from pg_dist_node where noderole <> 'primary';
-- First to addresses that no node has, because no two nodes may share one at any time.
update pg_dist_node set nodename = 'restored', nodeport = groupid + 1;
update pg_dist_node set nodename = '${LOOPBACK}', nodeport = port
  from (values ${addresses}) address (number, port) where groupid = number;
commit;
`
}

/** Returns the command with which a worker's Patroni calls node/announce-primary.sh. */
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

/** Renders the HTTP request that announces a worker's new primary to the coordinators. Patroni sends the same later. */
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
  // Enough for the pools of three gateways with two processes each, for reads, streams and writes, through either
  // proxy. On a worker all of these may need a connection at once, next to those of other nodes' transactions.
  max_connections: 300,
  // Small, because many members share a machine here.
  shared_buffers: '64MB',
  password_encryption: 'scram-sha-256',
  wal_log_hints: 'on',
  max_wal_senders: members.length + 4,
  max_replication_slots: members.length + 4,
  hot_standby_feedback: 'on',
  // After this, a primary gives up a silent secondary, and no longer waits for it.
  wal_sender_timeout: '5s',
  wal_receiver_timeout: '5s',
  wal_receiver_status_interval: '1s',
  // Silence after which a peer counts as dead: the first in milliseconds, the next two in seconds.
  tcp_user_timeout: 6000,
  tcp_keepalives_idle: 5,
  tcp_keepalives_interval: 1,
  tcp_keepalives_count: 5,
  log_line_prefix: '%m [%p] %q%u@%d ',
  // Details and statements of an error have values of rows.
  log_error_verbosity: 'terse',
  log_min_error_statement: 'panic',
  ...(isCitus
    ? {
        max_prepared_transactions: 200,
        'citus.node_connection_timeout': 1000,
        // Citus settles the distributed transactions that a failure has left within this time.
        'citus.recover_2pc_interval': '5s',
        'citus.shard_count': 12,
      }
    : {}),
})
