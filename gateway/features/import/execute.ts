// Owns the step from drizzle's composed SQL to the connection of an import.

import type { Session } from '../../database/session.ts'
import type { SQL } from '../../database/sql.ts'
import { statementOf } from '../../database/template.ts'

export const execute = <T extends object>(session: Session, statement: SQL): Promise<T[]> => {
  const { text, values } = statementOf(statement)
  return session.query<T>(text, values)
}
