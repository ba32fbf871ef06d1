// Owns what is right and wrong about a server of the database, whoever connects to it. It does no I/O.

import type { ServerFacts, Sighting } from '../../database/server-facts.ts'
import { type Finding, inSql, judgeEnd } from './finding.ts'

/** Oldest version with what the statements of the gateway use. */
const LEAST_VERSION = 150_000
/** Last releases of the major versions, as PostgreSQL's versioning policy announces them. */
const LAST_RELEASES: Readonly<Record<number, string>> = {
  15: '2027-11-11',
  16: '2028-11-09',
  17: '2029-11-08',
  18: '2030-11-14',
}
/** Clocks that differ by less do not matter to anything; NTP keeps them within milliseconds. */
const CLOCK_TOLERANCE_MS = 1_000
/** PostgreSQL begins to freeze by force at 200 million, warns from 2,107 million on, and stops at 2,144 million. */
const OLD_TRANSACTIONS = 1_000_000_000
const WRAPPING_TRANSACTIONS = 1_900_000_000
/** PostgreSQL tries each minute to archive what it could not; a failure that is older than this is over. */
const ARCHIVE_RETRY_MS = 10 * 60_000
/** Log that a slot may keep while its reader restarts. */
const SLOT_BYTES = 1_073_741_824

const megabytes = (bytes: number) => `${Math.round(bytes / 1_048_576)} MiB`

/** Returns what is wrong with a server. @param subject its address, or its name in Citus */
export function judgeServer(subject: string, { facts, fromMs, untilMs }: Sighting): readonly Finding[] {
  const { settings, database } = facts
  const found: Finding[] = []
  const add = (severity: Finding['severity'], check: string, finding: string, remedy: string) =>
    found.push({ severity, check, subject, finding, remedy })

  if (facts.versionNumber < LEAST_VERSION)
    add(
      'fault',
      'postgresql-version',
      `PostgreSQL ${facts.version} is too old.`,
      'Upgrade to PostgreSQL 15 or newer.',
    )
  const lastRelease = LAST_RELEASES[Math.floor(facts.versionNumber / 10_000)]
  if (lastRelease)
    found.push(
      ...judgeEnd(
        'postgresql-end-of-life',
        subject,
        `Support of PostgreSQL ${Math.floor(facts.versionNumber / 10_000)}`,
        Date.parse(lastRelease),
        'Plan the upgrade to a newer major version.',
        untilMs,
      ).map((one): Finding => ({ ...one, severity: 'warning' })),
    )
  if (database.encoding !== 'UTF8')
    add(
      'fault',
      'encoding',
      `The database ${database.name} is encoded as ${database.encoding}.`,
      'Create a database with encoding UTF8, and restore a dump of this one into it.',
    )
  if (database.collation !== null && database.collation !== database.actualCollation)
    add(
      'fault',
      'collation-version',
      `Indexes on texts were made with collation version ${database.collation}, and the system has ${database.actualCollation}: they may not find rows that are there.`,
      `reindex database ${inSql(database.name)}; alter database ${inSql(database.name)} refresh collation version;`,
    )

  const skewMs =
    facts.clockMs < fromMs ? facts.clockMs - fromMs : facts.clockMs > untilMs ? facts.clockMs - untilMs : 0
  if (Math.abs(skewMs) > CLOCK_TOLERANCE_MS)
    add(
      'warning',
      'clock',
      `Its clock is ${(Math.abs(skewMs) / 1_000).toFixed(1)} s ${skewMs < 0 ? 'behind' : 'ahead of'} the clock of this machine.`,
      'Let NTP set the clocks of both, for example with chrony.',
    )

  for (const [name, danger] of [
    [
      'fsync',
      'changes that were acknowledged are lost, and the database may be destroyed, when the machine crashes',
    ],
    ['full_page_writes', 'pages may be destroyed when the machine crashes'],
  ] as const)
    if (settings[name] === 'off')
      add(
        'fault',
        'durability',
        `${name} is off: ${danger}.`,
        `alter system set ${name} = on; select pg_reload_conf();`,
      )
  if (settings.autovacuum === 'off')
    add(
      'warning',
      'autovacuum',
      'autovacuum is off: tables grow with every change, and plans get worse.',
      'alter system set autovacuum = on; select pg_reload_conf();',
    )

  const age = facts.oldestTransaction
  if (age > OLD_TRANSACTIONS)
    add(
      age > WRAPPING_TRANSACTIONS ? 'fault' : 'warning',
      'transaction-age',
      `The oldest transaction is ${Math.round(age / 1e6)} million transactions old; at 2,144 million PostgreSQL takes no more changes.`,
      'End old transactions, prepared transactions and replication slots, then: vacuum (freeze);',
    )
  if (facts.prepared > 0)
    add(
      'fault',
      'prepared-transactions',
      `${facts.prepared} prepared transaction(s) of more than ten minutes hold locks, and keep vacuum from its work.`,
      facts.extensions.some(({ name }) => name === 'citus')
        ? 'select recover_prepared_transactions(); on the coordinator ends those of Citus; see pg_prepared_xacts for others.'
        : "See pg_prepared_xacts, then commit prepared '…' or rollback prepared '…'.",
    )
  if (facts.idleInTransaction > 0)
    add(
      'warning',
      'idle-in-transaction',
      `${facts.idleInTransaction} session(s) have done nothing in an open transaction for more than five minutes.`,
      "End them (pg_terminate_backend), and set idle_in_transaction_session_timeout = '5min'.",
    )
  for (const { name, bytes } of facts.idleSlots.filter((slot) => slot.bytes > SLOT_BYTES))
    add(
      'warning',
      'idle-slot',
      `The replication slot ${name} has no reader and keeps ${megabytes(bytes)} of the write-ahead log: the disk will fill.`,
      `Bring its reader back, or: select pg_drop_replication_slot('${name.replaceAll("'", "''")}');`,
    )
  const { mode, succeededMs, failedMs } = facts.archive
  // A secondary that archives, too, may fail until its primary has done so.
  if (
    mode !== 'off' &&
    !facts.isSecondary &&
    failedMs !== null &&
    failedMs > (succeededMs ?? 0) &&
    facts.clockMs - failedMs < ARCHIVE_RETRY_MS
  )
    add(
      'warning',
      'archive-fails',
      `It has archived none of its write-ahead log ${succeededMs === null ? 'yet' : `since ${new Date(succeededMs).toISOString()}`}: what has changed since then could not be restored, and its disk will fill.`,
      'Its log has what archive_command reported; make room where it archives to, or bring that back.',
    )
  if (facts.isReplayPaused)
    add(
      'fault',
      'replay-paused',
      'The secondary receives changes and does not apply them: its replay is paused.',
      'select pg_wal_replay_resume();',
    )
  return [...found, ...judgeExtensions(subject, facts)]
}

function judgeExtensions(subject: string, { extensions }: ServerFacts): readonly Finding[] {
  const found: Finding[] = []
  if (!extensions.some(({ name }) => name === 'postgis'))
    found.push({
      severity: 'fault',
      check: 'postgis-missing',
      subject,
      finding: 'The database has no extension postgis, so that there are no collections.',
      remedy: 'create extension postgis;',
    })
  for (const { name, version, available } of extensions)
    if (available === null)
      found.push({
        severity: 'fault',
        check: 'extension-files',
        subject,
        finding: `The extension ${name} is in the database, and its files are not on the server.`,
        remedy: `Install the package of ${name} for this version of PostgreSQL.`,
      })
    else if (version !== available)
      found.push({
        // Citus refuses statements then; others go on with the functions of the older version.
        severity: name === 'citus' ? 'fault' : 'warning',
        check: 'extension-version',
        subject,
        finding: `The extension ${name} is of version ${version}, and its files are of ${available}.`,
        remedy: `alter extension ${inSql(name)} update;`,
      })
  return found
}

/**
 * Returns what is wrong with the room for connections.
 * @param needed connections that one gateway opens there at most
 */
export function judgeConnections(subject: string, facts: ServerFacts, needed: number): readonly Finding[] {
  const { settings, role, database, sessions } = facts
  const reserved =
    Number(settings.superuser_reserved_connections ?? 0) + Number(settings.reserved_connections ?? 0)
  const limits = [
    { limit: Number(settings.max_connections) - reserved, what: 'the server takes (max_connections)' },
    { limit: role.connectionLimit, what: `the role ${role.name} may open` },
    { limit: database.connectionLimit, what: `the database ${database.name} takes` },
  ].filter(({ limit }) => limit >= 0)
  const least = limits.toSorted((one, other) => one.limit - other.limit)[0]!
  const remedy =
    'Lower TESSERA_POOL_SIZE or TESSERA_PROCESSES, raise that limit, or put a pooler in front; each further gateway needs as many.'
  const about = { check: 'connections', subject, remedy } as const
  const free = Number(settings.max_connections) - reserved - sessions
  return [
    ...(free > 0
      ? []
      : [
          {
            ...about,
            severity: 'fault',
            finding: `All connections for clients are in use: ${sessions} sessions of ${settings.max_connections}.`,
          } as const,
        ]),
    // Pools grow only as far as the load of the server allows, so that most gateways never need as many.
    ...(needed <= least.limit
      ? []
      : [
          {
            ...about,
            severity: 'note',
            finding: `Under load, one gateway with these settings opens up to ${needed} connections, of the ${least.limit} that ${least.what}.`,
          } as const,
        ]),
  ]
}
