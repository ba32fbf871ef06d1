// Owns statements whose rows are one column `json`: a session of the owner runs them, and so does a gateway at its write port.

import { gatewayError } from '../errors.ts'
import type { Database } from './contract.ts'

export interface RunsJson {
  query(text: string, values: readonly (string | null)[]): Promise<{ json: string }[]>
}

/**
 * Returns the write port as a place for such statements.
 * @param signatures of functions that they call, in schema tessera
 */
export function atWritePort(database: Database, ...signatures: readonly string[]): RunsJson {
  return {
    async query(text, values) {
      const [row] = await database.write(
        {
          text: `select coalesce(bool_and(has_function_privilege(to_regprocedure('tessera.' || signature), 'execute')), false)
            from unnest($1::text[]) as signature`,
          values: [signatures],
        },
        { isRepeatable: true },
      )
      if (row?.[0] !== 't')
        throw gatewayError(
          'change-forbidden',
          'The database has no functions for this that the gateway may call: run tessera migrate, and grant EXECUTE on those of schema tessera to the role of the write URL.',
        )
      const rows = await database.write({ text, values })
      return rows.map(([json]) => ({ json: json! }))
    },
  }
}
