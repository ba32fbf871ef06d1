// Owns the process that creates a restore point of all groups every few seconds, as long as something changes. What was
// acknowledged before the last point that is archived survives the loss of all machines. It reports over HTTP whether
// that is so, and what it knows of the backups: as JSON for the status of the cluster, and as metrics for Prometheus.

import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RecorderSettings } from '../parts.ts'
import { findPlace, makeFolder } from '../place.ts'
import {
  closePrimaries,
  createPoint,
  keepPoint,
  openPrimaries,
  type Primaries,
  readProgress,
} from './points.ts'
import { makeRecorderMetrics } from './recorder-metrics.ts'
import { openReader } from './repository.ts'
import { openWatch } from './watch.ts'

/** Milliseconds between two points. With the time to archive them, it bounds what the loss of all machines costs. */
const INTERVAL_MS = 4_000

const [folder, settingsFile] = process.argv.slice(2)
const place = findPlace(folder, {})
const { topology, account, size } = place
const settings: RecorderSettings = JSON.parse(readFileSync(settingsFile!, 'utf8'))
const watch = openWatch(
  topology.groups,
  openReader(place, settings.program, settings.repository, makeFolder(place, 'run', 'recorder')),
)

const say = (line: string) => process.stdout.write(`${new Date().toISOString()} ${line}\n`)

/** Why something failed at last, by what it was. */
const failures = new Map<string, string>()

/** Does something that may fail for a while, and logs what is new about a failure. @returns true if it succeeded */
async function attempt(what: string, work: () => Promise<void>): Promise<boolean> {
  try {
    await work()
    if (failures.delete(what)) say(`${what}: it works again`)
    return true
  } catch (error) {
    const { message } = error as Error
    if (message !== failures.get(what)) say(`${what}: ${message}`)
    failures.set(what, message)
    return false
  }
}

const POINTS = 'restore points'
const report = () => watch.report(failures.get(POINTS) ?? '')
const metrics = makeRecorderMetrics(report)

async function respond(path: string | undefined): Promise<readonly [type: string, body: string]> {
  return path === '/metrics'
    ? [metrics.contentType, await metrics.metrics()]
    : ['application/json', JSON.stringify(report())]
}

const server = createServer((request, response) => {
  respond(request.url).then(
    ([type, body]) => response.writeHead(200, { 'content-type': type }).end(body),
    // The folder of the backups cannot be read.
    (error: Error) => response.writeHead(500, { 'content-type': 'text/plain' }).end(error.message),
  )
})
const { host, port } = topology.recorders[0]!
server.listen(port, host)

let primaries: Primaries | undefined
let recorded = ''
for (;;) {
  const start = performance.now()
  await attempt('backups', watch.lookAtBackups)
  const isDone = await attempt(POINTS, async () => {
    primaries ??= await openPrimaries(topology, settings.credentials)
    const at = new Date().toISOString()
    const progress = (await Promise.all([...primaries.values()].map(readProgress))).join()
    if (progress === recorded) return watch.confirm(at)
    const point = await createPoint(primaries)
    keepPoint(size.backups, point, account)
    watch.add(point)
    recorded = progress
  })
  const isSeen =
    primaries !== undefined && (await attempt('archives', () => watch.lookAtArchives(primaries!)))
  // A primary is being replaced, or a table is being distributed: the next point is tried in time.
  if (primaries && !(isDone && isSeen)) {
    closePrimaries(primaries)
    primaries = undefined
  }
  await sleep(Math.max(0, INTERVAL_MS - (performance.now() - start)))
}
