// Owns `tessera backup` and `tessera backups`: copies the embedded database, and lists what was copied.

import { type Config, ConfigError, isEmbedded, readConfig } from '../config.ts'
import { dataFolderOf } from '../database/embedded.ts'
import {
  addressOf,
  type Backup,
  backUp,
  joinPgBackRest,
  listArchive,
  listBackups,
  openPgBackRest,
  readRepository,
  SEGMENT,
  verifyBackups,
  withWorkFolder,
} from '../database/embedded-backup.ts'
import { findOwner } from '../database/embedded-server.ts'
import { openTerminal } from '../terminal.ts'
import {
  type Cleanup,
  INTERRUPTIONS,
  OTHERS_BACKUPS,
  openEmbedded,
  programsOf,
  runUntilSignal,
} from './lifecycle.ts'
import { writeTable } from './table.ts'

export async function runBackup(args: readonly string[]) {
  const { config, options, positionals } = readConfig(args, { full: 'flag' })
  if (positionals.length > 0) throw new ConfigError(`backup takes no argument such as ${positionals[0]}.`)
  if (!isEmbedded(config)) throw new ConfigError(OTHERS_BACKUPS)
  const emit = openTerminal(process.stderr)
  const interruptedBy = await runUntilSignal(emit, async (cleanup) => {
    const { socket } = await openEmbedded(config, cleanup, true, emit)
    const pgbackrest = await joinPgBackRest({
      root: config.data,
      socket,
      owner: await findOwner(),
      data: dataFolderOf(config.data),
      path: (await programsOf(config)).path,
    })
    const { folder } = pgbackrest.repository
    if (config.backupTo !== undefined && addressOf(config.backupTo) !== folder)
      throw new ConfigError(
        `The Tessera that runs on ${config.data} archives its log in ${folder}; stop it to choose another folder.`,
      )
    const start = performance.now()
    const { type, addedBytes, databaseBytes } = await abortedBy(cleanup, (signal) =>
      backUp(pgbackrest, options.full === 'true', signal),
    )
    process.stdout.write(
      `${type} backup in ${seconds(performance.now() - start)}: ${megabytes(addedBytes)} of ${megabytes(databaseBytes)} added to ${folder}\n`,
    )
  })
  if (interruptedBy) process.exitCode = INTERRUPTIONS[interruptedBy]
}

/** Does work that the cleanup aborts, and waits for. */
export async function abortedBy<T>(cleanup: Cleanup, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const stop = new AbortController()
  const working = work(stop.signal)
  cleanup.defer(async () => {
    stop.abort()
    await working.catch(() => {})
  })
  return working
}

export async function runBackups(args: readonly string[]) {
  const { config, options, positionals } = readConfig(args, { verify: 'flag', json: 'flag' })
  if (positionals.length > 0) throw new ConfigError(`backups takes no argument such as ${positionals[0]}.`)
  if (!isEmbedded(config)) throw new ConfigError(OTHERS_BACKUPS)
  const interruptedBy = await runUntilSignal(openTerminal(process.stderr), async (cleanup) => {
    const inventory = await abortedBy(cleanup, (signal) =>
      takeInventory(config, options.verify === 'true', signal),
    )
    if (options.json === 'true') process.stdout.write(`${JSON.stringify(inventory)}\n`)
    else show(inventory)
    process.exitCode = inventory.faults.length > 0 ? 1 : 0
  })
  if (interruptedBy) process.exitCode = INTERRUPTIONS[interruptedBy]
}

type Inventory = {
  readonly folder: string
  readonly backups: readonly Omit<Backup, 'endLsn'>[]
  /** When the first backup ended, and when the newest file of the log was archived. */
  readonly from: Date | undefined
  readonly until: Date | undefined
  /** One sentence for each thing that is wrong. */
  readonly faults: readonly string[]
}

async function takeInventory(config: Config, isVerified: boolean, signal: AbortSignal): Promise<Inventory> {
  const repository = await readRepository(config.data)
  if (!repository)
    throw new ConfigError(
      `The database in ${config.data} has no backups: tessera backup --backup-to FOLDER begins them.`,
    )
  const owner = await findOwner()
  const { path } = await programsOf(config)
  return withWorkFolder(owner, async (workFolder) => {
    const pgbackrest = await openPgBackRest({ repository, path, owner, data: undefined, workFolder })
    const backups = await listBackups(pgbackrest)
    const archived = (await listArchive(pgbackrest))
      .filter(({ name }) => SEGMENT.test(name))
      .map(({ archivedAt }) => archivedAt)
    const found = isVerified ? await verifyBackups(pgbackrest, signal) : ''
    return {
      folder: repository.folder,
      backups: backups.map(({ endLsn: _, ...shown }) => shown),
      from: backups[0]?.endedAt,
      until: archived.toSorted((one, other) => one.getTime() - other.getTime()).at(-1),
      faults: [...(backups.length === 0 ? ['there is no backup yet: run tessera backup'] : []), found].filter(
        (fault) => fault !== '',
      ),
    }
  })
}

function show({ folder, backups, from, until, faults }: Inventory) {
  writeTable([
    ['BACKUP', 'TYPE', 'BEGUN', 'TOOK', 'DATABASE', 'ADDED'],
    ...backups.map(({ label, type, startedAt, endedAt, databaseBytes, addedBytes }) => [
      label,
      type,
      startedAt.toISOString(),
      seconds(endedAt.getTime() - startedAt.getTime()),
      megabytes(databaseBytes),
      megabytes(addedBytes),
    ]),
  ])
  const lines = [
    ...(from && until
      ? [
          `restore can go to any time from ${from.toISOString()} on; the log is archived until ${until.toISOString()} in ${folder}`,
        ]
      : []),
    ...faults.map((fault) => `FAULT: ${fault}`),
  ]
  process.stdout.write(`\n${lines.join('\n')}\n`)
}

const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`
const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`
