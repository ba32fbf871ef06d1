// Owns the process that creates a restore point of all groups every few seconds, as long as something changes. What was
// acknowledged before the last point that is archived survives the loss of all machines.

import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Credentials } from '../credentials.ts'
import { findPlace } from '../place.ts'
import {
  closePrimaries,
  createPoint,
  keepPoint,
  openPrimaries,
  type Primaries,
  readProgress,
} from './points.ts'

/** Milliseconds between two points. With the time to archive them, it bounds what the loss of all machines costs. */
const INTERVAL_MS = 4_000

const [folder, credentialsFile] = process.argv.slice(2)
const { topology, account, size } = findPlace(folder, {})
const credentials: Credentials = JSON.parse(readFileSync(credentialsFile!, 'utf8'))

const say = (line: string) => process.stdout.write(`${new Date().toISOString()} ${line}\n`)

let primaries: Primaries | undefined
let recorded = ''
let failure = ''
for (;;) {
  const start = performance.now()
  try {
    primaries ??= await openPrimaries(topology, credentials)
    const progress = (await Promise.all([...primaries.values()].map(readProgress))).join()
    if (progress !== recorded) {
      const point = await createPoint(primaries)
      keepPoint(size.backups, point, account)
      recorded = progress
    }
    if (failure) say('restore points are created again')
    failure = ''
  } catch (error) {
    // A primary is being replaced, or a table is being distributed: the next point is tried in time.
    const { message } = error as Error
    if (message !== failure) say(`no restore point: ${message}`)
    failure = message
    if (primaries) closePrimaries(primaries)
    primaries = undefined
  }
  await sleep(Math.max(0, INTERVAL_MS - (performance.now() - start)))
}
