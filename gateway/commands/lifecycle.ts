// Owns what every command does around its work: which database, in which order things end, and signals.

import { setTimeout as sleep } from 'node:timers/promises'
import { type Config, ConfigError, isEmbedded, systemEnvironment } from '../config.ts'
import { binariesOf, startEmbedded } from '../database/embedded.ts'
import { migrate } from '../database/migrate.ts'
import { judge } from '../database/outcome.ts'
import { openSession, type Session } from '../database/session.ts'
import { GatewayError } from '../errors.ts'
import type { Emit } from '../events.ts'

export type Addresses = {
  readonly readUrl: string
  readonly writeUrl: string | undefined
  readonly ownerUrl: string | undefined
}

/** What is to be undone at the end, the last first. */
export type Cleanup = AsyncDisposableStack

/** The configured database, or the embedded one, started if need be. */
export async function findDatabase(config: Config, cleanup: Cleanup, canShare: boolean, emit: Emit) {
  const { readUrl, writeUrl, ownerUrl } = config
  const never = new Promise<never>(() => {})
  if (!isEmbedded(config)) {
    const anyUrl = (readUrl ?? writeUrl ?? ownerUrl)!
    return {
      addresses: { readUrl: readUrl ?? anyUrl, writeUrl, ownerUrl: ownerUrl ?? writeUrl } satisfies Addresses,
      died: never,
    }
  }
  const { path, pgConfig } = systemEnvironment()
  const binaries = config.pgBin ?? (pgConfig && (await binariesOf(pgConfig)))
  const starting = startEmbedded({
    folder: config.ephemeral ? undefined : config.data,
    binaries,
    path,
    canShare,
    emit,
  })
  // Registered before it is there: told to stop meanwhile, we wait for it and then stop it.
  cleanup.defer(async () => {
    const started = await starting.catch(() => undefined)
    await started?.stop()
  })
  const embedded = await starting
  return { addresses: embedded satisfies Addresses, died: embedded.died }
}

/** Work as the role that owns Tessera's tables, after these have been brought up to date. */
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
  const session = await openSession(addresses.ownerUrl, 'owner')
  try {
    await migrate(session, emit)
    await work(session)
  } finally {
    await session.close()
  }
}

/** How often a database is looked for that cannot be reached. */
const AWAIT_INTERVAL_MS = 500

/**
 * Work that begins with a database which may just be starting, or changing places; again, until somebody answers.
 * @throws as `work`: what PostgreSQL refuses at once, that nobody answers after this time
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
      if (!isAway(error) || performance.now() > deadline) throw error
      if (!isTold) emit({ type: 'database-awaited', error: error as Error })
      await sleep(AWAIT_INTERVAL_MS)
    }
  }
}

/** An owner's session tells what the driver said. */
const isAway = (error: unknown) =>
  error instanceof GatewayError
    ? error.code === 'database-unavailable'
    : judge(error, { purpose: 'write', phase: 'within', isCitus: false }).outcome === 'never-sent'

/** Signals that ask us to stop, and what a shell reports of a program that they ended. */
export const INTERRUPTIONS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const
type Interruption = keyof typeof INTERRUPTIONS
/** How long work that was interrupted may take to tidy up after itself. */
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
  // What fails because it was interrupted is no failure.
  working.catch(() => {})
  try {
    await Promise.race([working, interrupted])
  } finally {
    await cleanup.disposeAsync()
  }
  // What lost its database by that ends now, and takes its temporary files with it.
  await Promise.race([working.catch(() => {}), sleep(CLEANUP_TIMEOUT_MS)])
  return interruptedBy
}
