// Tests the benchmark of peers: for a moment, on small tables, with a peer that gives wrong answers.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { bareNode } from '../bench/peers/bare-node.ts'
import type { Peer } from '../bench/peers/peer.ts'
import { renderPicture } from '../bench/peers/picture.ts'
import { tablesOf } from '../bench/peers/results.ts'
import { tessera } from '../bench/peers/tessera.ts'
import { comparePeers } from '../bench/peers.ts'

const skip = spawnSync('wrk').error
  ? 'SKIPPED: wrk is not installed (npm test installs it), so the benchmark of peers was not run'
  : false
if (skip) process.stderr.write(`\n*** ${skip} ***\n\n`)

/** It gives pages that are too short, and right answers to everything else. */
const shortPages: Peer = {
  ...tessera,
  name: 'short pages',
  readsManaged: false,
  requestOf: (ask) => tessera.requestOf(ask.limit ? { ...ask, limit: 7 } : ask),
}
const missing: Peer = { ...tessera, name: 'missing', program: 'no program has this name' }

test('every side is measured in every case, unless it is not found or its answers are wrong', {
  skip,
}, async () => {
  const found = await comparePeers({
    rounds: 1,
    seconds: 1,
    growth: [2_000],
    clients: [2],
    cities: 2_000,
    candidates: [shortPages, missing, bareNode],
  })
  const { results, reads, notes } = found
  const sidesOf = (name: string) =>
    results
      .filter(({ one }) => one.name.includes(name))
      .map(({ side, loads }) => [side, loads[0]!.perSecond > 0])
  const all = [
    ['Tessera', true],
    ['short pages', true],
    ['bare Node.js', true],
    ['floor', true],
  ]
  for (const name of ['item by id', 'insert', 'update']) assert.deepEqual(sidesOf(name), all, name)
  for (const name of ['points', 'polygons', 'country', 'CQL2'])
    assert.deepEqual(sidesOf(name), [all[0], all[2], all[3]], name)
  // The plain table, and the collection that Tessera imported.
  assert.deepEqual(sidesOf('2,000 rows'), [all[0], all[2], all[3], all[0], all[2], all[3]])
  assert.equal(reads.length, 6)
  for (const { rates } of reads) assert.ok(rates[0]! > 0)

  assert.match(notes[0]!, /^missing was not found: TESSERA_BENCH_PEERS /)
  assert.equal(notes.length, 6, notes.join('\n'))
  for (const note of notes.slice(1))
    assert.match(
      note,
      /^short pages is not measured in "page of .* has 7 features, 7 of them different, and not/,
    )

  for (const [heading, rows] of Object.entries(tablesOf(found))) {
    assert.ok(rows.length > 1, heading)
    for (const row of rows) assert.doesNotMatch(JSON.stringify(row), /null|failed|undefined/)
  }
  const picture = renderPicture(results)
  for (const text of ['Tessera: ', 'floor: ', 'Tessera, imported: ']) assert.ok(picture.includes(text), text)
  assert.doesNotMatch(picture, /NaN|undefined|Infinity/)
})
