// The drill of one collection: its features are changed and removed after a mark, and are brought back next to what
// there is as they were at the mark. Clients of a gateway see the difference.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { backUp, mark } from '../../backup/backup.ts'
import { temporaryFolderOf } from '../../backup/restore-collection.ts'
import { databaseUrls } from '../../database-urls.ts'
import { startGateways, untilGatewaysServe } from '../../launcher.ts'
import { findPlace, toolsOf } from '../../place.ts'
import { makeScratch, openTrial } from '../../scenarios/stage.ts'
import { untilWhole } from '../../status.ts'
import { urlOf } from '../../topology.ts'
import { whyNotBackups } from '../requirements.ts'

const MAIN = join(import.meta.dirname, '../../main.ts')
const BASE_PORT = 33_000
const FEATURES = 300
const WHOLE_TIMEOUT_MS = 60_000
/** Milliseconds within which a gateway notices a new table. */
const NOTICE_MS = 30_000

type Feature = { readonly id: string; readonly geometry: unknown; readonly properties: { name: string } }

test('a collection is restored next to the one that there is', {
  skip: whyNotBackups(true),
  timeout: 1_200_000,
}, async (t) => {
  const scratch = makeScratch('drill')
  const [backups, backupKey] = [join(scratch, 'backups'), join(scratch, 'backup.key')]
  const size = { workers: 2, gateways: 1, basePort: BASE_PORT, backups, backupKey }
  const trial = await openTrial(size, () => {})
  t.after(async () => {
    await trial.close()
    rmSync(scratch, { recursive: true, force: true })
  })
  const { cluster } = trial
  const { topology } = cluster.place
  const { host, httpPort } = topology.proxies[0]!
  const base = urlOf(host, httpPort)
  await startGateways(cluster)
  await untilGatewaysServe(cluster)

  const file = join(scratch, 'roads.geojson')
  const features = Array.from({ length: FEATURES }, (_, index) => ({
    type: 'Feature',
    geometry: { type: 'Point', coordinates: [((index * 7) % 360) - 179.5, (index % 160) - 79.5] },
    properties: { name: `road ${index}` },
  }))
  writeFileSync(file, JSON.stringify({ type: 'FeatureCollection', features }))
  const gateway = join(import.meta.dirname, '../../../gateway/main.ts')
  await promisify(execFile)(process.execPath, [gateway, 'import', file, '--collection', 'roads'], {
    env: {
      PATH: process.env.PATH,
      HOME: scratch,
      TESSERA_OWNER_URL: databaseUrls(topology, cluster.credentials, 'tessera_owner'),
    },
  })
  const untilServed = async (id: string) => {
    for (const deadline = performance.now() + NOTICE_MS; ; await sleep(500)) {
      const { status } = await fetch(`${base}/collections/${id}`)
      if (status === 200) return
      assert.ok(performance.now() < deadline, `${id} is not served: ${status}`)
    }
  }
  const read = async (id: string): Promise<Feature[]> => {
    const headers = { prefer: 'consistency=strong' }
    const response = await fetch(`${base}/collections/${id}/items?limit=1000`, { headers })
    assert.equal(response.status, 200)
    const { features } = (await response.json()) as { features: Feature[] }
    return features
      .map(({ id, geometry, properties }) => ({ id, geometry, properties }))
      .toSorted((one, other) => (one.id < other.id ? -1 : 1))
  }
  const change = async (method: string, path: string, body?: object) => {
    const response = await fetch(`${base}/collections/${path}`, {
      method,
      headers: { 'content-type': `application/${method === 'PATCH' ? 'merge-patch' : 'geo'}+json` },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${await response.text()}`)
    return response
  }
  await untilServed('roads')
  await backUp(cluster, true, () => {})

  // The feature leaves the cell that its id begins with, after the backup: only the log has that.
  const [moved, removed] = (await read('roads')) as [Feature, Feature]
  await change('PATCH', `roads/items/${moved.id}`, {
    type: 'Feature',
    geometry: { type: 'Point', coordinates: [100.25, 50.25] },
  })
  await trial.query(`create table parcels (id bigint primary key, geom geometry(Point, 4326));
    alter table parcels enable row level security`)
  const before = await read('roads')
  assert.equal(before.length, FEATURES)
  await mark(cluster, 'before-the-mistake')

  await change('DELETE', `roads/items/${removed.id}`)
  await trial.query(`update roads set name = 'nobody knows'`)
  const damaged = await read('roads')

  // A user's command finds the tools next to the folder of the cluster.
  const tools = toolsOf(cluster.place)
  symlinkSync(toolsOf(findPlace(undefined, {})), tools)
  t.after(() => rmSync(tools, { force: true }))
  /** @returns what the command reports; rejects with its message */
  const bringBack = async (collection: string, as: string) => {
    const words = ['--data', cluster.place.folder, '--collection', collection, '--as', as]
    const { stdout } = await promisify(execFile)(process.execPath, [
      ...[MAIN, 'restore', ...words, '--to', 'before-the-mistake'],
    ])
    return stdout
  }
  await assert.rejects(bringBack('roads', 'roads'), /There is a table public\.roads already/)
  await assert.rejects(bringBack('roads', 'no good'), /cannot name a collection/)
  assert.equal(existsSync(temporaryFolderOf(cluster.place.folder)), false)
  assert.match(await bringBack('roads', 'roads_before'), /^roads_before has the 300 features of roads$/m)
  assert.equal(existsSync(temporaryFolderOf(cluster.place.folder)), false)

  await untilServed('roads_before')
  assert.deepEqual(await read('roads_before'), before)
  assert.deepEqual(await read('roads'), damaged)
  // Otherwise the test would prove nothing.
  assert.equal(damaged.length, FEATURES - 1)
  const found = await fetch(`${base}/collections/roads_before/items/${moved.id}`)
  assert.equal(found.status, 200, 'the feature that has left its cell')
  await change('DELETE', `roads_before/items/${moved.id}`)
  const made = await change('POST', 'roads_before/items', {
    type: 'Feature',
    geometry: { type: 'Point', coordinates: [1, 1] },
    properties: { name: 'new' },
  })
  assert.equal(made.status, 201)
  const [{ distributions }] = (await trial.query(
    `select count(distinct colocationid)::int as distributions from pg_dist_partition
     where logicalrelid in ('roads_before'::regclass, 'tessera.moved_feature'::regclass)`,
  )) as [{ distributions: number }]
  assert.equal(distributions, 1)
  assert.deepEqual(await untilWhole(topology, cluster.credentials, WHOLE_TIMEOUT_MS), [])

  await assert.rejects(
    bringBack('rivers', 'rivers_before'),
    /no collection rivers at that point; it has .*roads/,
  )
  await assert.rejects(bringBack('parcels', 'parcels_before'), /row level security.*--base-port N/s)
  assert.equal(existsSync(temporaryFolderOf(cluster.place.folder)), false)
})
