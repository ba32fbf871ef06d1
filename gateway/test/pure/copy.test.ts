// Tests what is reported if PostgreSQL refuses a row of an import.

import assert from 'node:assert/strict'
import { Writable } from 'node:stream'
import { test } from 'node:test'
import type { Session } from '../../database/session.ts'
import { copySpool } from '../../features/import/copy.ts'
import { ImportError } from '../../features/import/import-error.ts'
import type { SpooledFeatures } from '../../features/import/spool.ts'
import { replacementName } from '../../features/import/target-table.ts'

const layout = { level: undefined, hasIds: false, isAppend: false, multi: undefined, namesSystem: false }
const lineOf = (line: number) => `${line}\t\\N\t\\N\t\\N\t1`

/** Copies three features, of lines 5, 7 and 9, into a table that refuses them. */
async function copyInto(table: string, failure: { message: string; where?: string }) {
  const refuse = (_chunk: unknown, _encoding: unknown, done: (error: Error) => void) =>
    done(Object.assign(new Error(failure.message), failure))
  const session = { copyInto: () => new Writable({ write: refuse }) } as unknown as Session
  const spooled = {
    unit: 'Line',
    columns: [{ property: 'n', name: 'n', type: 'integer', isComplete: true, commaExample: undefined }],
    lines: async function* () {
      yield [lineOf(5), lineOf(7)]
      yield [lineOf(9)]
    },
  } as unknown as SpooledFeatures
  await copySpool(session, table, spooled, layout)
}

test('a refused row is reported with its line in the source, its column and the collection', async () => {
  for (const table of ['roads', replacementName('roads')]) {
    const where = `COPY ${table}, line 2, column n: "x"`
    await assert.rejects(copyInto(table, { message: 'invalid input syntax', where }), {
      constructor: ImportError,
      message: 'Line 7, n: invalid input syntax. Nothing was imported.',
    })
    const message = `null value in column "n" of relation "${table}" violates not-null constraint`
    await assert.rejects(copyInto(table, { message, where: `COPY ${table}, line 3` }), {
      constructor: ImportError,
      message:
        'Line 9: null value in column "n" of relation "roads" violates not-null constraint. Nothing was imported.',
    })
  }
})

test('a failure without a row is not described', async () => {
  await assert.rejects(copyInto('roads', { message: 'the connection is gone' }), {
    constructor: Error,
    message: 'the connection is gone',
  })
})
