// The run's database is a coordinator pair and three worker pairs, with Citus.

import { setUpTrial } from './trial-setup.ts'

let trial: Awaited<ReturnType<typeof setUpTrial>> | undefined

export async function globalSetup() {
  trial = await setUpTrial({})
}

export async function globalTeardown() {
  await trial?.close()
}
