// Tests migrations: each is applied once, in order, completely or not at all, and an error names where it failed.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { MIGRATIONS_FOLDER, migrate } from '../../database/migrate.ts'
import { openSession } from '../../database/session.ts'
import { testDatabase } from '../support/database.ts'

const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
cpSync(MIGRATIONS_FOLDER, folder, { recursive: true })
const url = pathToFileURL(`${folder}/`)
const { ownerUrl } = testDatabase()
const session = await openSession(ownerUrl, 'test')
after(async () => {
  await session.query(`delete from tessera.migration where file ~ '^9'`)
  await session.close()
  rmSync(folder, { recursive: true, force: true })
})
const applied = async () =>
  (await session.query<{ file: string }>('select file from tessera.migration order by file')).map(
    ({ file }) => file,
  )

test('a migration that has been applied is not applied again', async () => {
  const events: string[] = []
  await migrate(session, ({ type }) => events.push(type), url)
  assert.deepEqual(events, [])
})

test('a migration that fails is rolled back completely, and its error names the file and line', async () => {
  writeFileSync(join(folder, '9001_good.sql'), 'create table tessera.good (id int);')
  writeFileSync(
    join(folder, '9002_bad.sql'),
    '-- ä comment\ncreate table tessera.bad (id int);\n\nselect nothing from nowhere;\n',
  )
  await assert.rejects(
    migrate(session, () => {}, url),
    { message: /^9002_bad\.sql:4: relation "nowhere" does not exist$/ },
  )
  assert.ok((await applied()).includes('9001_good.sql'))
  assert.deepEqual(await session.query(`select where to_regclass('tessera.bad') is not null`), [])
})

test('concurrent sessions apply a migration once', async () => {
  writeFileSync(join(folder, '9002_bad.sql'), 'create table tessera.better (id int);')
  let count = 0
  const sessions = await Promise.all(Array.from({ length: 5 }, () => openSession(ownerUrl, 'test')))
  await Promise.all(
    sessions.map((one) => migrate(one, ({ type }) => type === 'migration-applied' && count++, url)),
  )
  await Promise.all(sessions.map((one) => one.close()))
  assert.equal(count, 1)
  await session.query('drop table tessera.good, tessera.better')
})

test('a migration that was changed after it was applied is refused', async () => {
  writeFileSync(join(folder, '9001_good.sql'), 'select 1')
  await assert.rejects(
    migrate(session, () => {}, url),
    /9001_good\.sql has changed since it was applied/,
  )
})

test('the tables in the code match the migrations', () => {
  const copy = mkdtempSync(join(tmpdir(), 'tessera-test-'))
  cpSync(MIGRATIONS_FOLDER, copy, { recursive: true })
  const before = readdirSync(copy)
  const root = join(import.meta.dirname, '../../..')
  execFileSync(
    process.execPath,
    [
      join(root, 'node_modules/drizzle-kit/bin.cjs'),
      'generate',
      '--dialect=postgresql',
      '--schema=./gateway/database/tables.ts',
      `--out=${copy}`,
    ],
    { cwd: root },
  )
  assert.deepEqual(readdirSync(copy), before)
  rmSync(copy, { recursive: true, force: true })
})
