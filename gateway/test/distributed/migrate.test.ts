// Tests migrations: each is applied once, in order, completely or not at all, and an error names where it failed.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
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

/**
 * Compares the tables in the code with the migrations in a folder, and writes a new one there if they differ. drizzle-kit
 * reads snapshots by paths below the folder that it runs in, and its exit code says nothing of a failure.
 * @returns what it reports
 */
function generate(out: string): string {
  const root = join(import.meta.dirname, '../../..')
  return execFileSync(
    process.execPath,
    [
      join(root, 'node_modules/drizzle-kit/bin.cjs'),
      'generate',
      '--dialect=postgresql',
      `--schema=${join(root, 'gateway/database/tables.ts')}`,
      `--out=${basename(out)}`,
    ],
    { cwd: dirname(out), encoding: 'utf8' },
  )
}

test('the tables in the code match the migrations, and would not match the first one alone', () => {
  const copy = mkdtempSync(join(tmpdir(), 'tessera-test-'))
  cpSync(MIGRATIONS_FOLDER, copy, { recursive: true })
  const before = readdirSync(copy)
  assert.match(generate(copy), /No schema changes/)
  assert.deepEqual(readdirSync(copy), before)
  const meta = join(copy, 'meta')
  const journal = JSON.parse(readFileSync(join(meta, '_journal.json'), 'utf8')) as { entries: unknown[] }
  writeFileSync(
    join(meta, '_journal.json'),
    JSON.stringify({ ...journal, entries: journal.entries.slice(0, 1) }),
  )
  for (const file of readdirSync(meta))
    if (/^\d+/.test(file) && !file.startsWith('0000')) rmSync(join(meta, file))
  assert.doesNotMatch(generate(copy), /No schema changes/)
  assert.equal(readdirSync(copy).length, before.length + 1)
  rmSync(copy, { recursive: true, force: true })
})
