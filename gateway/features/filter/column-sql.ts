// Owns the names of columns in the SQL of a filter.

import type { Column } from '../values/column.ts'

/** Returns the quoted name; it comes from the catalog. */
export const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`

export const columnSql = ({ name }: Pick<Column, 'name'>) => quoted(name)
