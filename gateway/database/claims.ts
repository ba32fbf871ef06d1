// Owns the claims of a caller for PostgreSQL's own policies: the setting that has them during one transaction.

import pg from 'pg'
import type { Statement } from './statement.ts'

/** Name of the setting, which PostgREST uses too: policies fit both. */
const SETTING = 'request.jwt.claims'

/**
 * Returns the statement that sets claims until the end of its transaction.
 * @param claims a JSON object
 * @param isSpread true if Citus must pass them on to workers: it does so with what `set local` sets in a transaction block,
 *   and not with what set_config does. `set` takes no bound value, so it is quoted here, and nowhere else.
 */
export const settingOf = (claims: string, isSpread: boolean): Statement =>
  isSpread
    ? { text: `set local "${SETTING}" = ${pg.escapeLiteral(claims)};`, values: [] }
    : { text: `select from set_config('${SETTING}', $1, true)`, values: [claims] }
