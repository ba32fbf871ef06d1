// Owns what commands share that are nothing but work of the owner of the database. The process that serves does not load it.

import type { Config } from '../config.ts'
import type { Session } from '../database/session.ts'
import { openTerminal } from '../terminal.ts'
import { findDatabase, runUntilSignal, withOwner } from './lifecycle.ts'

/** Runs work as the owner of the database, or of the embedded one, which is started for it; a signal ends it in order. */
export async function runAsOwner(config: Config, work: (session: Session) => Promise<unknown>) {
  const emit = openTerminal(process.stderr)
  await runUntilSignal(emit, async (cleanup) => {
    const { addresses } = await findDatabase(config, cleanup, true, emit)
    await withOwner(addresses, emit, work)
  })
}
