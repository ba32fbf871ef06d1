// Owns the database of a run on a pair: one primary with its secondary, without Citus.

import { setUpTrial } from './trial-setup.ts'

let trial: Awaited<ReturnType<typeof setUpTrial>> | undefined

export async function globalSetup() {
  trial = await setUpTrial({ workers: 0 })
}

export async function globalTeardown() {
  await trial?.close()
}
