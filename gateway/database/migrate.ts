// Owns the schema's history: applies each file of sql/ once, in order, completely or not at all.

import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { UserError } from '../errors.ts'
import type { Emit } from '../events.ts'
import type { Session } from './session.ts'

export const MIGRATIONS_FOLDER = new URL('../../sql/', import.meta.url)

/** Advisory lock that migrations hold: any number that no other program locks. */
const LOCK = 7_355_608

/** A migration failed, or differs from what was applied; the message names the file and, if it is known, the line. */
export class MigrationError extends UserError {}

/**
 * Applies the missing migrations. Several gateways may call it at once: one works, the others wait and then
 * find nothing to do.
 * @throws MigrationError; the failing file is rolled back completely, those before it stay applied
 */
export async function migrate(session: Session, emit: Emit, folder: URL = MIGRATIONS_FOLDER): Promise<void> {
  const files = await readMigrations(folder)
  await session.query('select pg_advisory_lock($1)', [LOCK])
  try {
    await session.query(
      `create schema if not exists tessera;
       create table if not exists tessera.migration (
         file text primary key, digest text not null, applied_at timestamptz not null default now())`,
    )
    const applied = await readApplied(session)
    for (const { file, text, digest } of files) {
      const recorded = applied.get(file)
      if (recorded === digest) continue
      if (recorded !== undefined) {
        throw new MigrationError(
          `${file} has changed since it was applied; restore it, and write a new migration.`,
        )
      }
      const start = performance.now()
      await session.transaction(async () => {
        await session.query(text).catch((cause) => {
          throw new MigrationError(describeFailure(file, text, cause), { cause })
        })
        await session.query('insert into tessera.migration (file, digest) values ($1, $2)', [file, digest])
      })
      emit({ type: 'migration-applied', file, milliseconds: performance.now() - start })
    }
  } finally {
    await session.query('select pg_advisory_unlock($1)', [LOCK]).catch(() => {})
  }
}

/** Migrations by what became of them; all lists are empty if database and version belong together. */
export type MigrationState = {
  readonly missing: readonly string[]
  /** Applied with another text. */
  readonly changed: readonly string[]
  /** Applied by a version that has more of them. */
  readonly unknown: readonly string[]
}

/**
 * Compares what was applied with the files, and changes nothing.
 * @throws the driver's error if the role may not read the history
 */
export async function compareMigrations(
  session: Session,
  folder: URL = MIGRATIONS_FOLDER,
): Promise<MigrationState> {
  const files = await readMigrations(folder)
  const [found] = await session.query<{ exists: boolean }>(
    `select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
       where n.nspname = 'tessera' and c.relname = 'migration')`,
    [],
  )
  const applied = found!.exists ? await readApplied(session) : new Map<string, string>()
  const names = files.map(({ file }) => file)
  return {
    missing: names.filter((file) => !applied.has(file)),
    changed: files
      .filter(({ file, digest }) => applied.has(file) && applied.get(file) !== digest)
      .map(({ file }) => file),
    unknown: [...applied.keys()].filter((file) => !names.includes(file)).sort(),
  }
}

/** Returns the files of migrations in order. */
async function readMigrations(folder: URL) {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.sql')).sort()
  return Promise.all(
    files.map(async (file) => {
      const text = await readFile(new URL(file, folder), 'utf8')
      return { file, text, digest: createHash('sha256').update(text).digest('hex') }
    }),
  )
}

const readApplied = async (session: Session): Promise<ReadonlyMap<string, string>> =>
  new Map(
    (await session.query<{ file: string; digest: string }>('select file, digest from tessera.migration')).map(
      ({ file, digest }) => [file, digest],
    ),
  )

function describeFailure(file: string, text: string, cause: Error & { position?: string }): string {
  // PostgreSQL counts characters from 1; not all errors have a position.
  const before = cause.position && Array.from(text).slice(0, Number(cause.position) - 1)
  const line = before ? `:${before.filter((character) => character === '\n').length + 1}` : ''
  return `${file}${line}: ${cause.message}`
}
