// Owns the database of a run on Citus: a coordinator pair and three worker pairs.

import { setUpTrial } from './trial-setup.ts'

let trial: Awaited<ReturnType<typeof setUpTrial>> | undefined

export async function globalSetup() {
  trial = await setUpTrial({})
}

export async function globalTeardown() {
  await trial?.close()
}
