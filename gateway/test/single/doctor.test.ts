// Tests `tessera doctor` on real servers: what is broken is found, what is sound is not, and no secret is printed.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import type { Report } from '../../commands/doctor/examination.ts'
import { asRoleOf } from '../../database/addresses.ts'
import { openSession } from '../../database/session.ts'
import { testDatabase } from '../support/database.ts'
import { runTessera } from '../support/process.ts'

const { readUrl, writeUrl, ownerUrl, superuserUrl } = testDatabase()
const session = await openSession(ownerUrl, 'test')
after(() => session.close())
await session.query(`
  create schema ward;
  create table ward.sound (id int primary key, geom geometry(Point, 4326), name text);
  insert into ward.sound values (1, 'SRID=4326;POINT(1 2)', 'one');
  create table ward.keyless (gid int, geom geometry(Point, 4326));
  insert into ward.keyless values (1, 'SRID=4326;POINT(1 2)');
  create table ward.unindexed (id int primary key, geom geometry(Point, 4326));
  insert into ward.unindexed select i, 'SRID=4326;POINT(1 2)' from generate_series(1, 20000) i;
  create function ward.fails() returns text language plpgsql as
    $$ begin raise exception 'no link with password=open-sesame to the archive'; end $$;
  create view ward.broken as select id, geom, ward.fails() as name from ward.sound;
  create view ward.slow as select 1 as id, geom, pg_sleep(1.2)::text as nap from ward.sound;
  analyze ward.sound, ward.keyless, ward.unindexed`)

const URLS = { TESSERA_READ_URL: readUrl, TESSERA_WRITE_URL: writeUrl, TESSERA_OWNER_URL: ownerUrl }

async function examine(args: readonly string[], environment: Record<string, string> = URLS) {
  const { code, output } = await runTessera(['doctor', '--json', ...args], undefined, environment)
  const report = JSON.parse(/^\{.*\}$/m.exec(output)![0]) as Report & { worst: string }
  const found = report.findings.map(({ severity, check, subject }) => `${severity} ${check} ${subject}`)
  return { code, output, report, found }
}

/** Everything is slow on a machine that is busy; what this finds beyond the one that sleeps is no matter of these tests. */
const isSlow = (line: string) => line.includes(' slow-collection ') && !line.endsWith(' ward.slow')

test('what is wrong with collections is found, and the statements that are proposed make it right', async () => {
  const { code, report, found } = await examine(['--schemas', 'ward'])
  assert.equal(code, 3)
  assert.equal(report.worst, 'fault')
  const ofWard = found.filter((line) => line.includes(' ward.') && !isSlow(line))
  assert.deepEqual(ofWard.sort(), [
    'fault broken-collection ward.broken',
    'note no-key ward.slow',
    'warning no-key ward.keyless',
    'warning no-spatial-index ward.unindexed',
    'warning slow-collection ward.slow',
  ])
  assert.equal(report.examined.collections, 5)
  for (const { finding, remedy } of report.findings) {
    assert.match(finding, /\.$/)
    assert.notEqual(remedy, '')
  }
  for (const [check, subject] of [
    ['no-key', 'ward.keyless'],
    ['no-spatial-index', 'ward.unindexed'],
  ])
    await session.query(report.findings.find((one) => one.check === check && one.subject === subject)!.remedy)
  const after = await examine(['--schemas', 'ward'])
  const left = after.found.filter((line) => /keyless|unindexed/.test(line) && !isSlow(line))
  assert.deepEqual(left, [])
})

test('a sound collection, its server and its roles have nothing to report', async () => {
  await session.query(`create schema gym; create table gym.sound (like ward.sound including all);
    create index on gym.sound using gist (geom); insert into gym.sound select * from ward.sound; analyze gym.sound`)
  const { code, found, report } = await examine(['--schemas', 'gym', '--pool-size', '2', '--processes', '1'])
  // The disk is that of this machine, and other tests use the same roles and tables.
  const own = found.filter((line) => !/ disk |^warning (reader-changes|role-)/.test(line) && !isSlow(line))
  // The database of a run is thrown away at its end, and is fast instead of safe.
  assert.deepEqual(
    own.map((line) => line.replace(/ \S+$/, '')),
    ['fault durability', 'fault durability'],
  )
  assert.deepEqual(report.unexamined, [])
  assert.equal(code, 3)
})

test('no password is printed, whoever repeats it', async () => {
  const withPassword = readUrl.replace('tessera_read@', 'tessera_read:open-sesame@')
  const { code, output } = await runTessera(['doctor', '--schemas', 'ward'], undefined, {
    TESSERA_READ_URL: `${withPassword},postgresql://reader:open%2Dsesame@127.0.0.1:1/geo`,
  })
  assert.equal(code, 3)
  assert.match(output, /no link with password=… to the archive/)
  assert.match(output, /✗ TESSERA_READ_URL \(127\.0\.0\.1:1\): It does not answer: .*ECONNREFUSED/)
  assert.doesNotMatch(output, /sesame/)
})

test('a role with too much power is found, and one that both reads and changes', async () => {
  const all = asRoleOf(superuserUrl, readUrl)
  const { found } = await examine(['--schemas', 'gym'], { TESSERA_WRITE_URL: all })
  assert.ok(found.includes('fault superuser role postgres'), found.join('\n'))
  assert.ok(found.includes('warning shared-role role postgres'), found.join('\n'))
})

test('a database that cannot be reached is a fault, and the rest says why it was not examined', async () => {
  const { code, report, found } = await examine([], {
    TESSERA_READ_URL: 'postgresql://nobody@127.0.0.1:1/geo',
  })
  assert.equal(code, 3)
  assert.ok(found.includes('fault unreachable TESSERA_READ_URL (127.0.0.1:1)'), found.join('\n'))
  assert.ok(report.unexamined.some(({ what }) => what === 'collections'))
})

test('a new embedded database only lacks the migrations', async () => {
  const { code, found } = await examine(['--ephemeral', '--pool-size', '2', '--processes', '1'], {})
  assert.deepEqual(
    found.filter((line) => !line.includes(' disk ')),
    ['warning migrations schema tessera'],
  )
  assert.equal(code, 2)
})

test('the end of the certificate at the public address is found', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tessera-doctor-'))
  after(() => rmSync(folder, { recursive: true }))
  const file = (name: string) => join(folder, name)
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-noenc', '-subj', '/CN=localhost', '-days', '3']
  execFileSync('openssl', [...request, '-keyout', file('key'), '-out', file('cert')], { stdio: 'pipe' })
  const server = createServer({ key: readFileSync(file('key')), cert: readFileSync(file('cert')) })
  after(() => server.close())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const address = `https://localhost:${port}`
  const { report } = await examine(['--schemas', 'gym', '--public-url', address])
  const found = report.findings.find(({ check }) => check === 'certificate-end')!
  assert.equal(found.subject, address)
  assert.match(found.finding, /^The certificate of CN=localhost ends on .*, in 2 days\.$/)
})

test('wrong arguments are no finding', async () => {
  const { code, output } = await runTessera(['doctor', 'cities'], undefined, URLS)
  assert.equal(code, 1)
  assert.match(output, /doctor takes no argument such as cities/)
})
