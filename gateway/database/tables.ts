// Owns the shape of Tessera's own tables; `npm run migration` turns a change here into a file of sql/.

import {
  boolean,
  customType,
  index,
  integer,
  pgSchema,
  primaryKey,
  text,
  timestamp,
  unique,
} from 'drizzle-orm/pg-core'

export const tessera = pgSchema('tessera')

/** What is known of a collection beyond its table. A table without a row here is served all the same. */
export const collectionTable = tessera.table(
  'collection',
  {
    schemaName: text('schema_name').notNull(),
    tableName: text('table_name').notNull(),
    title: text('title'),
    description: text('description'),
    /** An SPDX identifier or a URL. */
    license: text('license'),
    attribution: text('attribution'),
    /** Which column `datetime` is about; null for the first temporal one. */
    temporalColumn: text('temporal_column'),
    /** Whether Tessera created the table, and so may alter it. */
    isManaged: boolean('is_managed').notNull().default(false),
    createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
  },
  (table) => [unique('collection_table_key').on(table.schemaName, table.tableName)],
)

const bytea = customType<{ data: Buffer }>({ dataType: () => 'bytea' })

/** Who may change features. Of the secret only its hash is kept. */
export const apiKeyTable = tessera.table('api_key', {
  /** The part of a key that may be shown. */
  id: text('id').primaryKey(),
  name: text('name').notNull(),
  secretHash: bytea('secret_hash').notNull(),
  canWrite: boolean('can_write').notNull().default(true),
  /** Ids of the collections that it is for; null for all. */
  collections: text('collections').array(),
  createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
  revokedAt: timestamp('revoked_at', { withTimezone: true }),
})

/** Where a feature is that has left the cell that its id begins with, see features/cell.ts. */
export const movedFeatureTable = tessera.table(
  'moved_feature',
  {
    schemaName: text('schema_name').notNull(),
    tableName: text('table_name').notNull(),
    cell: integer('cell').notNull(),
    id: text('id').notNull(),
    movedTo: integer('moved_to').notNull(),
  },
  (table) => [
    primaryKey({
      name: 'moved_feature_pkey',
      columns: [table.cell, table.id, table.tableName, table.schemaName],
    }),
  ],
)

/** What consistency tokens are signed with: one row, the same for all gateways of a database and of no other. */
export const tokenKeyTable = tessera.table('token_key', { key: bytea('key').notNull() })

/** What came of changes, by the key of whoever asked for them, see features/changes/idempotency-key.ts. */
export const changeKeyTable = tessera.table(
  'change_key',
  {
    /** Beside whose features it lies. */
    cell: integer('cell').notNull(),
    /** Of whoever asked, what was asked for, and the key. */
    hash: bytea('hash').notNull(),
    /** Of body and conditions. */
    request: bytea('request').notNull(),
    outcome: text('outcome').notNull(),
    featureId: text('feature_id'),
    feature: text('feature'),
    version: text('version'),
    expiresAt: timestamp('expires_at', { withTimezone: true }).notNull(),
  },
  (table) => [
    primaryKey({ name: 'change_key_pkey', columns: [table.cell, table.hash] }),
    index('change_key_expires_at_idx').on(table.expiresAt),
  ],
)
