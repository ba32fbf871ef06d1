// Owns `tessera migrate`: brings Tessera's own tables up to date with this version.

import { readConfig } from '../config.ts'
import { openTerminal } from '../terminal.ts'
import { findDatabase, prepareDatabase, runUntilSignal } from './lifecycle.ts'

export async function runMigrate(args: readonly string[]) {
  const { config } = readConfig(args)
  const emit = openTerminal(process.stderr)
  await runUntilSignal(emit, async (cleanup) => {
    const { addresses } = await findDatabase(config, cleanup, true, emit)
    await prepareDatabase(config, addresses, emit)
  })
}
