// Owns changes of collections: the functions of the database that create, change and drop the tables behind them.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Database } from '../../database/contract.ts'
import { RefusedChange } from '../../database/outcome.ts'
import { gatewayError, invalidBody, pointerOf } from '../../errors.ts'
import type { Collection } from '../collections/collection.ts'
import { findUnknownCodes } from '../collections/offered-systems.ts'
import type { CollectionPatch, NewCollection, Words } from './collection-definition.ts'

/**
 * Longest wait until this process shows a change, which a secondary may get a moment later. Other processes and gateways
 * look for changes by themselves, see catalog.ts.
 */
const SHOWING_MS = 2_000
const SHOWING_INTERVAL_MS = 50

/** True if the role of the write port may call what sql/0012_managed_collections.sql has created. */
const allowed = {
  text: "select has_function_privilege(to_regprocedure('tessera.create_collection(text, jsonb, jsonb)'), 'execute')",
  values: [],
}

export type CollectionChanges = ReturnType<typeof makeCollectionChanges>

/**
 * @param database as this request must see it
 * @param readAgain reads all collections again, and returns one of them; undefined if it is not there
 */
export function makeCollectionChanges(
  database: Database,
  readAgain: (id: string) => Promise<Collection | undefined>,
) {
  /** Calls a function of the database. @throws GatewayError */
  async function call(collection: string, text: string, values: readonly string[]) {
    const [row] = await database.write(allowed, { isRepeatable: true })
    if (row?.[0] !== 't')
      throw gatewayError(
        'change-forbidden',
        'The database has no functions for this that the gateway may call: run tessera migrate, and grant EXECUTE on those of schema tessera to the role of the write URL.',
      )
    try {
      return await database.write({ text, values })
    } catch (error) {
      if (!(error instanceof RefusedChange)) throw error
      throw describeRefusal(error, collection)
    }
  }

  async function checkSystems({ crs }: Words) {
    const codes = crs ?? []
    const unknown = await findUnknownCodes(database, codes)
    if (unknown.length > 0)
      throw invalidBody(
        'collection-invalid',
        unknown.map((code) => ({
          pointer: pointerOf('crs', String(codes.indexOf(code))),
          detail: `is no system of the database with positions on the ground: ${code}`,
        })),
      )
  }

  async function show(isShown: (collection: Collection | undefined) => boolean, id: string) {
    const deadline = performance.now() + SHOWING_MS
    for (;;) {
      if (isShown(await readAgain(id)) || performance.now() > deadline) return
      await sleep(SHOWING_INTERVAL_MS)
    }
  }

  return {
    /** @throws GatewayError collection-conflict, collection-invalid */
    async create({ id, table, words }: NewCollection) {
      await checkSystems(words)
      await call(id, 'select tessera.create_collection($1, $2, $3)', [
        id,
        JSON.stringify(table),
        JSON.stringify(words),
      ])
      await show((collection) => collection?.capabilities !== undefined, id)
    },

    /** @throws GatewayError change-forbidden, collection-conflict, collection-invalid */
    async change({ id, table }: Collection, { columns, words }: CollectionPatch) {
      await checkSystems(words)
      const rows = await call(id, 'select tessera.alter_collection($1, $2, $3)', [
        table,
        JSON.stringify(columns),
        JSON.stringify(words),
      ])
      checkManaged(id, rows)
      await show(
        (collection) =>
          collection !== undefined &&
          columns.every(({ name }) => collection.properties.some((property) => property.name === name)) &&
          (typeof words.title !== 'string' || collection.title === words.title) &&
          (words.description === undefined || collection.description === (words.description ?? undefined)),
        id,
      )
    },

    /** @throws GatewayError change-forbidden, collection-conflict */
    async remove({ id, table }: Collection) {
      checkManaged(id, await call(id, 'select tessera.drop_collection($1)', [table]))
      await show((collection) => collection === undefined, id)
    },
  }
}

function checkManaged(id: string, [row]: readonly (readonly unknown[])[]) {
  if (row?.[0] === 't') return
  throw gatewayError(
    'change-forbidden',
    `Tessera has not created the table of ${id}; only its owner can change or remove it, with SQL.`,
    { collection: id },
  )
}

function describeRefusal(refused: RefusedChange, id: string) {
  const { refusal, message, cause } = refused
  const { code, detail } = cause as { code?: string; detail?: string }
  if (refusal === 'forbidden')
    return gatewayError(
      'change-forbidden',
      `The table of ${id} has another owner.`,
      { collection: id },
      refused,
    )
  if (refusal === 'invalid') return invalidBody('collection-invalid', [{ pointer: '', detail: message }])
  return gatewayError(
    'collection-conflict',
    code === '2BP01'
      ? `${id} cannot be removed: ${detail ?? message}`
      : `There is a table or an index with a name that ${id} needs; choose another id.`,
    { collection: id },
    refused,
  )
}
