// Which members may become primary, as read from etcd's keys, and that a seed always draws the same faults.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encode } from '../etcd-client.ts'
import type { MemberState } from '../patroni-client.ts'
import { describeAge, refuse } from '../promote.ts'
import { drawStrikes } from '../scenarios/sequences.ts'
import { readSuccession } from '../succession.ts'
import { DEFAULT_SIZE, makeTopology } from '../topology.ts'

const FOLDER = '/service/tessera/3'
const keysOf = (values: Readonly<Record<string, string>>) =>
  new Map(
    Object.entries(values).map(([name, value], index) => [
      `${FOLDER}/${name}`,
      { key: encode(`${FOLDER}/${name}`), value: encode(value), mod_revision: String(7 + index) },
    ]),
  )

test('the last leader and its secondaries are complete; for the others it is known until when they were', () => {
  const sync = {
    leader: 'w3b',
    sync_standby: 'w3c,w3d',
    complete_until: { w3a: '2026-11-26T12:00:00.000+00:00' },
  }
  const found = readSuccession(
    keysOf({
      sync: JSON.stringify(sync),
      leader: 'w3b',
      status: '{"optime":4096}',
      config: '{"pause":true}',
    }),
    FOLDER,
  )
  assert.deepEqual(found, {
    leader: { name: 'w3b', revision: '8' },
    complete: ['w3b', 'w3c', 'w3d'],
    completeUntil: sync.complete_until,
    revision: '7',
    position: 4096,
    isPaused: true,
  })
})

test('a group without keys has no complete member', () => {
  const { leader, complete, revision, position, isPaused } = readSuccession(new Map(), FOLDER)
  assert.deepEqual([leader, complete, revision, position, isPaused], [undefined, [], '0', undefined, false])
  assert.deepEqual(
    readSuccession(keysOf({ sync: '{"leader":"w3a","sync_standby":null}' }), FOLDER).complete,
    ['w3a'],
  )
})

test('a seed always draws the same faults, and another seed draws others', () => {
  const topology = makeTopology(DEFAULT_SIZE)
  assert.deepEqual(drawStrikes(4711, topology), drawStrikes(4711, topology))
  assert.notDeepEqual(drawStrikes(4711, topology), drawStrikes(4712, topology))
  const drawn = Array.from({ length: 200 }, (_, seed) => drawStrikes(seed, topology)).flat()
  assert.ok(drawn.every(({ fromMs, toMs }) => fromMs >= 0 && toMs > fromMs))
  const struck = new Set(drawn.map(({ name }) => name))
  const parts = [
    topology.members,
    topology.proxies,
    topology.store,
    topology.fencers,
    topology.gateways,
  ].flat()
  assert.deepEqual([...struck].toSorted(), parts.map(({ name }) => name).toSorted())
})

test('an age has its two largest units', () => {
  const ages = [0, 59_400, 60_000, 71_000, 3_600_000, 90_061_000, -5].map(describeAge)
  assert.deepEqual(ages, ['0 s', '59 s', '1 min', '1 min 11 s', '1 h', '1 d 1 h', '0 s'])
})

test('a member is promoted with a loss only if no running member has more, and no complete one runs', () => {
  const state = (timeline: number | undefined, receivedPosition: number | undefined): MemberState => ({
    role: 'replica',
    state: 'running',
    timeline,
    isStreaming: false,
    isSynchronous: false,
    position: receivedPosition,
    receivedPosition,
    replayedAgoMs: undefined,
  })
  const lost = { ...readSuccession(keysOf({ sync: '{"leader":"b","sync_standby":null}' }), FOLDER) }
  const refusal = (
    states: Readonly<Record<string, MemberState | undefined>>,
    name = 'a',
    succession = lost,
  ) => refuse(name, 'w3', succession, new Map(Object.entries(states)))
  assert.equal(refusal({ a: state(1, 5), b: undefined, c: state(1, 4) }), undefined)
  assert.match(refusal({ a: state(1, 5), b: undefined, c: state(1, 6) })!, /c runs and has more/)
  assert.match(refusal({ a: state(1, 5), b: undefined, c: state(2, 4) })!, /c runs and has more/)
  assert.match(
    refusal({ a: state(1, 5), b: undefined, c: state(undefined, undefined) })!,
    /c does not report yet/,
  )
  assert.match(refusal({ a: undefined, b: undefined })!, /a does not run/)
  assert.match(refusal({ a: state(1, 5), b: state(2, 9) })!, /b runs and has every acknowledged change/)
  // A complete member may be promoted, and loses nothing.
  assert.equal(refusal({ a: undefined, b: state(2, 9) }, 'b'), undefined)
  assert.match(
    refusal({ a: state(1, 5), b: undefined }, 'b')!,
    /becomes primary by itself as soon as it runs/,
  )
  const led = { ...lost, leader: { name: 'b', revision: '1' } }
  assert.match(refusal({ a: state(1, 5), b: state(2, 9) }, 'a', led)!, /has a primary, b/)
})
