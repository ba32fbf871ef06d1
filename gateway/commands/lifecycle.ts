// Owns what all commands share: they find the database, end things in order, and handle signals.

import { setTimeout as sleep } from 'node:timers/promises'
import { type Config, ConfigError, isEmbedded, systemEnvironment } from '../config.ts'
import type { Session } from '../database/session.ts'
import { GatewayError } from '../errors.ts'
import type { Emit } from '../events.ts'

export type Addresses = {
  readonly readUrl: string
  readonly writeUrl: string | undefined
  readonly ownerUrl: string | undefined
}

/** Steps that undo what a command has started; they run at its end, in reverse order. */
export type Cleanup = AsyncDisposableStack

/**
 * Returns the configured database, or starts the embedded one.
 * @param canShare true if an embedded server that another Tessera runs may be used
 */
export async function findDatabase(config: Config, cleanup: Cleanup, canShare: boolean, emit: Emit) {
  const { readUrl, writeUrl, ownerUrl } = config
  const never = new Promise<never>(() => {})
  if (!isEmbedded(config)) {
    if (config.backupTo !== undefined) throw new ConfigError(OTHERS_BACKUPS)
    const anyUrl = (readUrl ?? writeUrl ?? ownerUrl)!
    return {
      addresses: { readUrl: readUrl ?? anyUrl, writeUrl, ownerUrl: ownerUrl ?? writeUrl } satisfies Addresses,
      died: never,
    }
  }
  const embedded = await openEmbedded(config, cleanup, canShare, emit)
  return { addresses: embedded satisfies Addresses, died: embedded.died }
}

export const OTHERS_BACKUPS =
  'Only the embedded PostGIS is backed up: that of the configured URLs has backups of its own, for a cluster those of docs/guides/backup.md.'

/** Starts the embedded database; the cleanup stops it. */
export async function openEmbedded(config: Config, cleanup: Cleanup, canShare: boolean, emit: Emit) {
  const { startEmbedded } = await import('../database/embedded.ts')
  if (config.ephemeral && config.backupTo !== undefined)
    throw new ConfigError(
      '--ephemeral and --backup-to exclude each other: what is removed at the end has no backups.',
    )
  const starting = startEmbedded({
    folder: config.ephemeral ? undefined : config.data,
    ...(await programsOf(config)),
    canShare,
    backups: {
      folder: config.backupTo,
      store: config.backupStore,
      keyFile: config.backupKey,
      kept: config.backupsKept,
    },
    emit,
  })
  // Registered before the start has finished: after a signal during the start, the cleanup waits for the server
  // and then stops it.
  cleanup.defer(async () => {
    const started = await starting.catch(() => undefined)
    await started?.stop()
  })
  return starting
}

/** Returns where the programs of PostgreSQL are, as far as that is known. */
export async function programsOf(config: Config) {
  const { path, pgConfig } = systemEnvironment()
  const { binariesOf } = await import('../database/embedded-server.ts')
  return { path, binaries: config.pgBin ?? (pgConfig && (await binariesOf(pgConfig))) }
}

/** Applies missing migrations, then runs `work`, both as the role that owns Tessera's tables. */
export async function withOwner(
  addresses: Addresses,
  emit: Emit,
  work: (session: Session) => Promise<unknown>,
) {
  if (!addresses.ownerUrl) {
    throw new ConfigError(
      'Only TESSERA_READ_URL is set: migrations and imports need TESSERA_WRITE_URL or TESSERA_OWNER_URL.',
    )
  }
  const [{ migrate }, { openSession }] = await Promise.all([
    import('../database/migrate.ts'),
    import('../database/session.ts'),
  ])
  const session = await openSession(addresses.ownerUrl, 'owner')
  try {
    await migrate(session, emit)
    await work(session)
  } finally {
    await session.close()
  }
}

/**
 * Applies missing migrations and imports the demo data if it is wanted and missing, again and again while no database
 * answers.
 */
export const prepareDatabase = (config: Config, addresses: Addresses, emit: Emit) =>
  awaitDatabase(config, emit, () =>
    withOwner(addresses, emit, async (session) => {
      if (config.demo) await (await import('../features/import/demo.ts')).importDemo(session, emit)
    }),
  )

/** Interval between attempts to reach a database. */
const AWAIT_INTERVAL_MS = 500

/**
 * Runs `work`, again and again while no database answers: it may be starting, or changing its primary.
 * @throws as `work`: at once if PostgreSQL refuses, after `startTimeoutMs` if no database answers
 */
export async function awaitDatabase<T>(
  { startTimeoutMs }: Config,
  emit: Emit,
  work: () => Promise<T>,
): Promise<T> {
  const deadline = performance.now() + startTimeoutMs
  for (let isTold = false; ; isTold = true) {
    try {
      return await work()
    } catch (error) {
      if (!(await isAway(error)) || performance.now() > deadline) throw error
      if (!isTold) emit({ type: 'database-awaited', error: error as Error })
      await sleep(AWAIT_INTERVAL_MS)
    }
  }
}

/** Returns true if no database answers. An owner's session throws the driver's own errors, which are judged here. */
async function isAway(error: unknown): Promise<boolean> {
  if (error instanceof GatewayError) return error.code === 'database-unavailable'
  const { judge } = await import('../database/outcome.ts')
  return judge(error, { purpose: 'write', phase: 'within', isCitus: false }).outcome === 'never-sent'
}

/** Signals that stop a command, and its exit code then, as shells report it: 128 and the signal's number. */
export const INTERRUPTIONS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const
type Interruption = keyof typeof INTERRUPTIONS
/** Time that interrupted work has to clean up. */
const CLEANUP_TIMEOUT_MS = 1_000

/**
 * Runs `work` until it ends or a signal comes, then cleans up.
 * @returns the signal, if one came
 */
export async function runUntilSignal(
  emit: Emit,
  work: (cleanup: Cleanup, interrupted: Promise<void>) => Promise<void>,
) {
  const cleanup = new AsyncDisposableStack()
  let interruptedBy: Interruption | undefined
  const interrupted = new Promise<void>((resolve) => {
    for (const name of Object.keys(INTERRUPTIONS) as Interruption[]) {
      process.on(name, () => {
        if (interruptedBy) return
        interruptedBy = name
        emit({ type: 'gateway-draining', signal: name })
        resolve()
      })
    }
  })
  const working = work(cleanup, interrupted)
  // Work that fails because of the interruption must not count as an unhandled rejection.
  working.catch(() => {})
  try {
    await Promise.race([working, interrupted])
  } finally {
    await cleanup.disposeAsync()
  }
  // Work that has just lost its database fails now and removes its temporary files.
  await Promise.race([working.catch(() => {}), sleep(CLEANUP_TIMEOUT_MS)])
  return interruptedBy
}
