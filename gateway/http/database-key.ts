// Owns the key of the database, which all of its gateways have and nobody outside: it signs consistency tokens and seals cookies.

import { createSecretKey, type KeyObject } from 'node:crypto'
import type { Database } from '../database/contract.ts'
import type { Row } from '../database/statement.ts'
import { hasRights } from '../database/table-rights.ts'

/** Returns the key; undefined if the database has none, because it was not migrated, or if it cannot be read. */
export type DatabaseKey = () => Promise<KeyObject | undefined>

export function makeDatabaseKey(database: Database): DatabaseKey {
  // As an object: of bytes, Node.js would make one for each token, at five times the cost.
  let key: KeyObject | undefined
  return async () => {
    if (key) return key
    const [[isReadable]] = (await database.read(IS_READABLE)) as [Row]
    const [row] = isReadable === 't' ? await database.read(KEY) : []
    if (row) key = createSecretKey(row[0]!, 'hex')
    return key
  }
}

const IS_READABLE = hasRights('token_key', ['select'])
const KEY = { text: `select encode(key, 'hex') from tessera.token_key`, values: [] }
