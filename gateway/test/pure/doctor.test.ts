// Tests the rules of `tessera doctor`: each finds what it is for, and nothing about what is as it should be.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { judgeStorage } from '../../commands/doctor/collection-rules.ts'
import { type Finding, judgeEnd } from '../../commands/doctor/finding.ts'
import { judgeRole, type Purpose } from '../../commands/doctor/role-rules.ts'
import { judgeConnections, judgeServer } from '../../commands/doctor/server-rules.ts'
import { mostConnections } from '../../database/endpoint.ts'
import type { RoleFacts, ServerFacts } from '../../database/server-facts.ts'
import { makeCollection } from '../../features/collections/collection.ts'
import type { Storage } from '../../features/collections/storage.ts'
import { column, tableOf } from '../support/relation.ts'

const NOW_MS = Date.parse('2026-06-01')
const none = { count: 0, some: null }
const reader: RoleFacts = {
  name: 'reader',
  isSuperuser: false,
  canCreateRoles: false,
  canCreateDatabases: false,
  bypassesRowSecurity: false,
  canReplicate: false,
  connectionLimit: -1,
  passwordEndsMs: null,
  powers: [],
  canCreateSchemas: false,
  creatable: [],
  owned: none,
  changeable: none,
  truncatable: none,
}
const sound: ServerFacts = {
  version: '17.6',
  versionNumber: 170_006,
  clockMs: NOW_MS + 5,
  isSecondary: false,
  settings: {
    autovacuum: 'on',
    fsync: 'on',
    full_page_writes: 'on',
    max_connections: '100',
    superuser_reserved_connections: '3',
    reserved_connections: '0',
  },
  sessions: 12,
  idleInTransaction: 0,
  prepared: 0,
  isReplayPaused: false,
  idleSlots: [],
  archive: { mode: 'on', succeededMs: NOW_MS - 1_000, failedMs: NOW_MS - 9_000 },
  oldestTransaction: 20_000_000,
  database: {
    name: 'geo',
    encoding: 'UTF8',
    connectionLimit: -1,
    collation: '2.36',
    actualCollation: '2.36',
  },
  extensions: [{ name: 'postgis', version: '3.5.2', available: '3.5.2' }],
  role: reader,
}
const judge = (facts: Partial<ServerFacts>) =>
  judgeServer('db:5432', { facts: { ...sound, ...facts }, fromMs: NOW_MS, untilMs: NOW_MS + 10 })
const shown = (findings: readonly Finding[]) => findings.map(({ severity, check }) => `${severity} ${check}`)

test('nothing is found about a server and roles that are as they should be', () => {
  assert.deepEqual(judge({}), [])
  assert.deepEqual(judgeRole('read', reader, true, NOW_MS), [])
  const writer = { ...reader, changeable: { count: 9, some: ['a', 'b', 'c'] } }
  assert.deepEqual(judgeRole('write', writer, true, NOW_MS), [])
  const owner = { ...writer, owned: writer.changeable, canCreateSchemas: true, creatable: ['public'] }
  assert.deepEqual(judgeRole('owner', owner, true, NOW_MS), [])
})

test('each fact of a server that is wrong is found, with its severity', () => {
  const cases: readonly [Partial<ServerFacts>, string][] = [
    [{ versionNumber: 140_019, version: '14.19' }, 'fault postgresql-version'],
    [{ versionNumber: 150_020, version: '15.20', clockMs: NOW_MS }, ''],
    [{ database: { ...sound.database, encoding: 'SQL_ASCII' } }, 'fault encoding'],
    [{ database: { ...sound.database, actualCollation: '2.41' } }, 'fault collation-version'],
    [{ clockMs: NOW_MS - 1_500 }, 'warning clock'],
    [{ clockMs: NOW_MS + 1_500 }, 'warning clock'],
    [{ clockMs: NOW_MS + 900 }, ''],
    [{ settings: { ...sound.settings, fsync: 'off' } }, 'fault durability'],
    [{ settings: { ...sound.settings, full_page_writes: 'off' } }, 'fault durability'],
    [{ settings: { ...sound.settings, autovacuum: 'off' } }, 'warning autovacuum'],
    [{ oldestTransaction: 1_200_000_000 }, 'warning transaction-age'],
    [{ oldestTransaction: 2_000_000_000 }, 'fault transaction-age'],
    [{ prepared: 1 }, 'fault prepared-transactions'],
    [{ idleInTransaction: 2 }, 'warning idle-in-transaction'],
    [{ idleSlots: [{ name: 'old', bytes: 5e9 }] }, 'warning idle-slot'],
    [{ idleSlots: [{ name: 'restarting', bytes: 5e6 }] }, ''],
    [{ archive: { mode: 'on', succeededMs: null, failedMs: NOW_MS } }, 'warning archive-fails'],
    [{ archive: { mode: 'on', succeededMs: NOW_MS - 9, failedMs: NOW_MS - 5 } }, 'warning archive-fails'],
    [{ archive: { mode: 'on', succeededMs: null, failedMs: NOW_MS - 660_000 } }, ''],
    [{ archive: { mode: 'off', succeededMs: null, failedMs: NOW_MS } }, ''],
    [{ isSecondary: true, archive: { mode: 'always', succeededMs: null, failedMs: NOW_MS } }, ''],
    [{ isReplayPaused: true }, 'fault replay-paused'],
    [{ extensions: [] }, 'fault postgis-missing'],
    [
      { extensions: [{ name: 'postgis', version: '3.3.2', available: '3.5.2' }] },
      'warning extension-version',
    ],
    [{ extensions: [{ name: 'postgis', version: '3.3.2', available: null }] }, 'fault extension-files'],
  ]
  for (const [facts, expected] of cases)
    assert.equal(shown(judge(facts)).join(), expected, JSON.stringify(facts))
})

test('the end of a certificate, a password and a version is found a month before', () => {
  const at = (days: number) => judgeEnd('c', 's', 'It', NOW_MS + days * 86_400_000, 'Renew it.', NOW_MS)
  assert.deepEqual(
    [31, 29, -1].map((days) => shown(at(days)).join()),
    ['', 'warning c', 'fault c'],
  )
  assert.match(at(1)[0]!.finding, /in a day/)
  const late = { ...sound, versionNumber: 150_020, version: '15.20' }
  const untilMs = Date.parse('2028-01-01')
  assert.deepEqual(
    shown(judgeServer('s', { facts: { ...late, clockMs: untilMs }, fromMs: untilMs, untilMs })),
    ['warning postgresql-end-of-life'],
  )
})

test('a role that can do more than its work needs is found', () => {
  const tables = { count: 5, some: ['public.a', 'public.b', 'public.c'] }
  const cases: readonly [Purpose, Partial<RoleFacts>, string][] = [
    ['read', { isSuperuser: true, canCreateRoles: true }, 'fault superuser'],
    ['owner', { isSuperuser: true }, 'warning superuser'],
    ['write', { canCreateRoles: true, canReplicate: true }, 'warning role-attributes'],
    ['read', { powers: ['pg_read_all_data'] }, ''],
    ['read', { powers: ['pg_execute_server_program'] }, 'warning role-powers'],
    ['read', { changeable: tables }, 'warning reader-changes'],
    ['write', { truncatable: tables, changeable: tables }, 'warning writer-truncates'],
    ['write', { owned: tables, truncatable: tables, changeable: tables }, 'warning role-owns'],
    ['write', { creatable: ['public'] }, 'warning role-creates'],
    ['read', { passwordEndsMs: NOW_MS }, 'warning password-end'],
  ]
  for (const [purpose, facts, expected] of cases)
    assert.equal(
      shown(judgeRole(purpose, { ...reader, ...facts }, true, NOW_MS)).join(),
      expected,
      JSON.stringify(facts),
    )
  const [{ finding, remedy } = { finding: '', remedy: '' }] = judgeRole(
    'write',
    { ...reader, name: 'Field crew', canReplicate: true, owned: none },
    true,
    NOW_MS,
  )
  assert.match(finding, /changes features has replication/)
  assert.equal(remedy, 'alter role "Field crew" noreplication;')
})

test('the connections of a gateway are compared with the least limit', () => {
  const facts = { ...sound, role: { ...reader, connectionLimit: 20 } }
  assert.deepEqual(judgeConnections('s', facts, 20), [])
  assert.match(
    judgeConnections('s', facts, 21)[0]!.finding,
    /21 connections, of the 20 that the role reader may open/,
  )
  assert.deepEqual(shown(judgeConnections('s', { ...sound, sessions: 97 }, 20)), ['fault connections'])
  // Reads, half as many streams, changes, a quarter of each to spare, and the probe.
  assert.deepEqual([mostConnections('read', 8), mostConnections('write', 8)], [16, 26])
})

const stored: Storage = {
  schema: 'public',
  table: 'roads',
  kind: 'r',
  rows: 50_000,
  liveRows: 50_000,
  deadRows: 0,
  brokenIndexes: [],
  isIndexed: true,
  isIndexedAsGeometry: false,
  isSystemIndexed: false,
  candidate: 'gid',
}

test('missing keys and indexes of a collection are found, with the statement that adds them', () => {
  const relation = tableOf('roads', 'Point', [column('name', 'text')])
  const make = (facts: Partial<typeof relation>) =>
    makeCollection({ ...relation, ...facts }, undefined, undefined, undefined, 1)
  const judged = (facts: Partial<typeof relation>, storage: Partial<Storage>) =>
    judgeStorage(make(facts), { ...stored, ...storage })
  const remedies = (...of: Parameters<typeof judged>) => judged(...of).map(({ remedy }) => remedy)
  const found = (...of: Parameters<typeof judged>) => shown(judged(...of)).join()
  assert.equal(found({}, {}), '')
  assert.deepEqual(remedies({ key: null }, {}), ['alter table public.roads add primary key (gid);'])
  assert.match(remedies({ key: null }, { candidate: null })[0]!, /add column id bigint generated always/)
  assert.equal(found({ key: null, kind: 'v' }, { kind: 'v' }), 'note no-key')
  assert.deepEqual(remedies({}, { isIndexed: false }), [
    'create index concurrently on public.roads using gist (geom);',
  ])
  assert.equal(found({}, { isIndexed: false, rows: 50 }), '')
  assert.equal(found({}, { isIndexed: false, rows: -1 }), 'note no-statistics')
  assert.deepEqual(remedies({ isGeography: true }, {}), [
    'create index concurrently on public.roads using gist ((geom::geometry));',
  ])
  assert.deepEqual(remedies({ srid: null, geometryCast: null }, {}), [
    'create index concurrently on public.roads (st_srid(geom)) where st_srid(geom) not in (0, 4326);',
  ])
  assert.deepEqual(remedies({}, { kind: 'p', rows: -1, isIndexed: false }), [
    'create index on public.roads using gist (geom);',
  ])
  assert.equal(found({}, { brokenIndexes: ['roads_geom_idx'] }), 'warning broken-index')
  assert.equal(found({}, { deadRows: 60_000 }), 'warning dead-rows')
})
