// Owns what the gateway uses of drizzle: SQL that is composed of parts, and how PostgreSQL writes it. Other files import
// it from here.

import { createRequire } from 'node:module'
import type * as Drizzle from 'drizzle-orm'

/**
 * Loads drizzle as CommonJS. For each file of an ES module, Node parses the package.json that is nearest, and that of
 * drizzle has 180 kB: as ES modules, these files took 0.4 s and 100 MB more of each process. Its query builder and its
 * columns are not loaded at all.
 */
const load = createRequire(import.meta.url)
const drizzle: typeof Drizzle = load('drizzle-orm/sql')
const { CasingCache }: typeof import('drizzle-orm/casing') = load('drizzle-orm/casing')

export const { fillPlaceholders, Placeholder, SQL, StringChunk, sql } = drizzle
export type SQL<T = unknown> = Drizzle.SQL<T>

const dialect = {
  casing: new CasingCache(),
  escapeName: (name: string) => `"${name.replaceAll('"', '""')}"`,
  escapeParam: (index: number) => `$${index + 1}`,
  escapeString: (text: string) => `'${text.replaceAll("'", "''")}'`,
}

/** Returns composed SQL as a text for PostgreSQL, and the values and placeholders of its parameters. */
export const writeSql = (composed: SQL) => composed.toQuery(dialect)
