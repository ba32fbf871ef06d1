// Tests the benchmark of tiles: for a moment, on small tables, with a peer that has no tiles.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import type { Peer } from '../bench/peers/peer.ts'
import { tessera } from '../bench/peers/tessera.ts'
import { compareTiles, rowsOf } from '../bench/tiles.ts'

const skip = spawnSync('wrk').error
  ? 'SKIPPED: wrk is not installed (npm test installs it), so the benchmark of tiles was not run'
  : false
if (skip) process.stderr.write(`\n*** ${skip} ***\n\n`)

/** It looks for tiles where there are none. */
const astray: Peer = {
  ...tessera,
  name: 'astray',
  requestOf: ({ tile }) => tile && { path: `/collections/nothing/tiles/${tile.level}` },
}
const missing: Peer = { ...tessera, name: 'missing', program: 'no program has this name' }

test('tiles of both tables are measured on every side, unless it is not found or gives no tiles', {
  skip,
}, async () => {
  const { results, notes } = await compareTiles({
    rounds: 1,
    seconds: 1,
    cities: 3_000,
    points: 20_000,
    candidates: [tessera, astray, missing],
  })
  const rows = rowsOf(results)
  assert.deepEqual(
    rows.map(({ table, zoom, side }) => [table, zoom, side]),
    ['cities', 'many_cities'].flatMap((table) => [4, 8, 12].map((zoom) => [table, zoom, 'Tessera'])),
  )
  for (const row of rows) assert.ok(Number(row['per second']) > 0, JSON.stringify(row))
  for (const { largest } of results) assert.ok(largest > 0 && largest <= 500_000, String(largest))
  assert.ok(rows.slice(3).every((row) => Number(row['p95 : cities']) > 0))
  assert.match(notes[0]!, /^missing was not found/)
  assert.equal(notes.filter((note) => /^astray failed in .*404/.test(note)).length, 6, notes.join('\n'))
})
