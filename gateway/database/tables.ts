// Owns the definitions of Tessera's own tables; `npm run migration` turns a change here into a file of sql/. Nothing else
// loads them: statements name the tables and columns as they are in sql/.

import { sql } from 'drizzle-orm'
import {
  boolean,
  customType,
  doublePrecision,
  index,
  integer,
  interval,
  pgSchema,
  primaryKey,
  text,
  timestamp,
  unique,
  uuid,
} from 'drizzle-orm/pg-core'

export const tessera = pgSchema('tessera')

const regclass = customType<{ data: string }>({ dataType: () => 'regclass' })

/** Metadata of collections. A table without a row here is served, too. */
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
    /** Column to which `datetime` applies; null for the first temporal one. */
    temporalColumn: text('temporal_column'),
    /** True if Tessera created the table and so may alter it. */
    isManaged: boolean('is_managed').notNull().default(false),
    createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
    /** When `tessera purge` last made gateways give up what they keep of the collection. */
    purgedAt: timestamp('purged_at', { withTimezone: true }),
    /** Codes of coordinate systems in which the collection is served besides those of all; null for none. */
    crs: text('crs').array(),
    /** True if no change is made without a condition; null for what holds for all collections. */
    requiresPrecondition: boolean('requires_precondition'),
    /** Column in which Tessera stores the time of each change; null for that of managed tables. */
    modifiedColumn: text('modified_column'),
    /** Column with the end of the time that begins in `temporal_column`; null if that is an instant. */
    temporalEndColumn: text('temporal_end_column'),
    /** Year to which the coordinates belong, with decimals; null if it is not known. */
    coordinateEpoch: doublePrecision('coordinate_epoch'),
    /** Roles of those who may read it; null for everybody. */
    readers: text('readers').array(),
    /** The same for creating features, changing and removing them; null for those who may change all collections. */
    creators: text('creators').array(),
    editors: text('editors').array(),
    removers: text('removers').array(),
    /** What the audit keeps of changes: `ids`, or `values` too; null for nothing. */
    audit: text('audit'),
    /** Roles of those who may see it; null for those who may see that of all collections. */
    auditors: text('auditors').array(),
    /** The table for which something was set, whose rules hold under any name. */
    relation: regclass('relation'),
    /** Last change of one of these, by which gateways notice it. */
    changedAt: timestamp('changed_at', { withTimezone: true }),
  },
  (table) => [unique('collection_table_key').on(table.schemaName, table.tableName)],
)

const bytea = customType<{ data: Buffer }>({ dataType: () => 'bytea' })

/** Keys with which clients may change features. Only the hash of a secret is stored. */
export const apiKeyTable = tessera.table('api_key', {
  /** The part of a key that may be shown. */
  id: text('id').primaryKey(),
  name: text('name').notNull(),
  secretHash: bytea('secret_hash').notNull(),
  canWrite: boolean('can_write').notNull().default(true),
  /** True if it may also create, change and remove collections. */
  canManage: boolean('can_manage').notNull().default(false),
  /** Ids of the collections for which the key is valid; null for all. */
  collections: text('collections').array(),
  createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
  /** From when on it is valid no more; null if it never expires. */
  expiresAt: timestamp('expires_at', { withTimezone: true }),
  revokedAt: timestamp('revoked_at', { withTimezone: true }),
  /** True if it may also give keys and set rules. */
  canGrant: boolean('can_grant').notNull().default(false),
  /** Roles that rules name; null for a key that has rights of its own, whatever the rules are. */
  roles: text('roles').array(),
  /** How long it was meant to be valid when it was created, which a rotation does not change; null for ever. */
  lifetime: interval('lifetime'),
  /** Caller that created it through a gateway; null if it was created with the command. */
  createdBy: text('created_by'),
  /** About when it was last used. */
  lastUsedAt: timestamp('last_used_at', { withTimezone: true }),
})

/** Forwarding rows of features that have left their home cell, see features/sharding/forwarding.ts. */
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

/** Key that signs consistency tokens: one row, the same for all gateways of a database, different for each database. */
export const tokenKeyTable = tessera.table('token_key', { key: bytea('key').notNull() })

/** Outcomes of changes by their idempotency keys, see features/changes/idempotency-key.ts. */
export const changeKeyTable = tessera.table(
  'change_key',
  {
    /** Cell next to whose features the row is stored. */
    cell: integer('cell').notNull(),
    /** Hash of the caller, the target of the change, and the key. */
    hash: bytea('hash').notNull(),
    /** Hash of the body and the conditions. */
    request: bytea('request').notNull(),
    outcome: text('outcome').notNull(),
    featureId: text('feature_id'),
    feature: text('feature'),
    version: text('version'),
    /** Second since 1970 of the feature's last change; null if its table does not tell. */
    modified: doublePrecision('modified'),
    expiresAt: timestamp('expires_at', { withTimezone: true }).notNull(),
  },
  (table) => [
    primaryKey({ name: 'change_key_pkey', columns: [table.cell, table.hash] }),
    index('change_key_expires_at_idx').on(table.expiresAt),
  ],
)

/** Entries of the audit, see features/changes/audit.ts. The table is partitioned by time. */
export const auditTable = tessera.table(
  'audit',
  {
    /** Cell next to whose features the entry is stored. */
    cell: integer('cell').notNull(),
    changedAt: timestamp('changed_at', { withTimezone: true }).notNull().default(sql`clock_timestamp()`),
    entry: uuid('entry').notNull().defaultRandom(),
    schemaName: text('schema_name').notNull(),
    tableName: text('table_name').notNull(),
    featureId: text('feature_id').notNull(),
    /** `created`, `changed` or `removed`. */
    action: text('action').notNull(),
    /** Id of an API key, or issuer and subject of a token; empty for a caller without credentials. */
    caller: text('caller').notNull(),
    address: text('address').notNull(),
    requestId: text('request_id').notNull(),
    /** The feature before and after the change; null if values are not kept. */
    before: text('before'),
    after: text('after'),
  },
  (table) => [
    primaryKey({ name: 'audit_pkey', columns: [table.cell, table.changedAt, table.entry] }),
    index('audit_feature_idx').on(table.cell, table.featureId, table.changedAt),
    index('audit_changed_at_idx').on(table.changedAt),
  ],
)

/** How many days entries of the audit are kept: one row, or none if that is for ever. */
export const auditRetentionTable = tessera.table('audit_retention', { days: integer('days').notNull() })
