// Owns API keys: the owner of the database and callers who may create, list, rotate and revoke them, and gateways check them.

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Database } from '../../database/contract.ts'
import { atWritePort, type RunsJson } from '../../database/json-rows.ts'
import { RefusedChange } from '../../database/outcome.ts'
import { sql } from '../../database/sql.ts'
import { statementOf } from '../../database/template.ts'
import { gatewayError } from '../../errors.ts'

export type ApiKey = {
  readonly id: string
  readonly name: string
  readonly canWrite: boolean
  /** True if it may also create, change and remove collections. */
  readonly canManage: boolean
  /** True if it may also give keys and set rules. */
  readonly canGrant: boolean
  /** Ids of the collections for which the key is valid; undefined for all. */
  readonly collections: readonly string[] | undefined
  /** Roles that rules name; undefined for a key that has rights of its own, whatever the rules are. */
  readonly roles: readonly string[] | undefined
  /** From when on it is valid no more; undefined if it never expires. */
  readonly expiresAt?: Date | undefined
}

export type NewApiKey = Omit<ApiKey, 'id' | 'canGrant' | 'roles'> &
  Partial<Pick<ApiKey, 'canGrant' | 'roles'>>

export interface ApiKeys {
  /** Returns true if there ever was a key. @throws GatewayError if keys cannot be read */
  exist(): Promise<boolean>
  /**
   * Returns the key with this text, if it exists and has not been revoked.
   * @throws GatewayError credentials-invalid if it has expired; else as `exist`
   */
  find(text: string): Promise<ApiKey | undefined>
  /**
   * The same for what shows the state of the database: if the keys cannot be read at once, those that were last read
   * count. Meanwhile nobody can revoke one either.
   */
  readonly remembered: Pick<ApiKeys, 'exist' | 'find'>
  /**
   * Returns the id of the key in an Authorization header if it is known to be valid, without waiting for the database:
   * it is read in the background, and until then the key counts as none.
   */
  recognize(authorization: string): string | undefined
  /** Reads the keys now: one that has just been created, rotated or revoked counts from here on. */
  renew(): Promise<void>
  /** Returns the keys that were last read and have not been revoked, in the order in which they were created. */
  list(): readonly ListedApiKey[]
}

/** Returns the key or token of an Authorization header; undefined if it has neither. */
export const bearerIn = (authorization: string) => /^Bearer +(\S+)$/i.exec(authorization)?.[1]

/** Prefix of keys, by which people and secret scanners recognize them. */
const PREFIX = 'tessera'
const ID_BYTES = 6
/** Length of a random secret, which is too long to guess, so that a plain hash protects it as well as a slow one. */
const SECRET_BYTES = 24
const KEY = new RegExp(`^${PREFIX}_([0-9a-f]{${ID_BYTES * 2}})_([\\w-]{${(SECRET_BYTES / 3) * 4}})$`)

const hashOf = (secret: string) => createHash('sha256').update(secret).digest()

/** Signatures of what changes keys in the database. */
export const KEY_FUNCTIONS = {
  create: 'create_key(jsonb)',
  rotate: 'rotate_key(text, timestamptz, jsonb)',
  revoke: 'revoke_key(text)',
  noteUse: 'note_use_of_keys(jsonb, integer)',
} as const

/**
 * Creates a key.
 * @param createdBy the caller of a gateway; undefined for the owner
 * @returns its text, which is not stored and cannot be shown again
 */
export async function createApiKey(runs: RunsJson, key: NewApiKey, createdBy?: string): Promise<string> {
  const { id, secret, text } = drawKey()
  const { canGrant = false, ...rights } = key
  const stored = { ...rights, canGrant, id, secretHash: hashOf(secret).toString('hex'), createdBy }
  await runs.query('select tessera.create_key($1)::text as json', [JSON.stringify(stored)])
  return text
}

/** Returns the id in the text of a key, the part of it that may be shown. */
export const idOfKey = (text: string) => KEY.exec(text)?.[1]

function drawKey() {
  const id = randomBytes(ID_BYTES).toString('hex')
  const secret = randomBytes(SECRET_BYTES).toString('base64url')
  return { id, secret, text: `${PREFIX}_${id}_${secret}` }
}

export type Rotation = {
  /** When the old key expires, unless it does earlier. */
  readonly until: Date
  /** When the new key does; undefined if it lives as long as the old one was meant to. */
  readonly expiresAt: Date | undefined
  /** When the new key expires at the latest; undefined for any time. */
  readonly latest?: Date | undefined
  /** The caller of a gateway; undefined for the owner. */
  readonly createdBy?: string | undefined
}

/**
 * Creates a key that may do the same as another one, and lets that one expire.
 * @returns the text of the new key; undefined if there is no such key, or it has been revoked or has expired
 */
export async function rotateApiKey(
  runs: RunsJson,
  oldId: string,
  { until, ...rest }: Rotation,
): Promise<string | undefined> {
  const { id, secret, text } = drawKey()
  const successor = { ...rest, id, secretHash: hashOf(secret).toString('hex') }
  const [done] = await runs.query('select tessera.rotate_key($1, $2, $3)::text as json', [
    oldId,
    until.toISOString(),
    JSON.stringify(successor),
  ])
  return done?.json === 'true' ? text : undefined
}

export type ListedApiKey = ApiKey & {
  readonly createdAt: Date
  /** The caller of a gateway that created it; undefined for the owner. */
  readonly createdBy: string | undefined
  readonly revokedAt: Date | undefined
  /** About when it was last used; undefined if it never was. */
  readonly lastUsedAt: Date | undefined
}

/** A row of tessera.api_key; a database that was not migrated yet lacks some columns. */
type StoredKey = {
  readonly id: string
  readonly name: string
  readonly can_write: boolean
  readonly can_manage?: boolean
  readonly can_grant?: boolean
  readonly collections: readonly string[] | null
  readonly roles?: readonly string[] | null
  readonly created_at: string
  readonly created_by?: string | null
  readonly expires_at?: string | null
  readonly revoked_at: string | null
  readonly last_used_at?: string | null
}

function readKey(row: StoredKey): ListedApiKey {
  const time = (text: string | null | undefined) => (text == null ? undefined : new Date(text))
  return {
    id: row.id,
    name: row.name,
    canWrite: row.can_write,
    canManage: row.can_manage ?? false,
    canGrant: row.can_grant ?? false,
    collections: row.collections ?? undefined,
    roles: row.roles ?? undefined,
    createdAt: new Date(row.created_at),
    createdBy: row.created_by ?? undefined,
    expiresAt: time(row.expires_at),
    revokedAt: time(row.revoked_at),
    lastUsedAt: time(row.last_used_at),
  }
}

/** Returns all keys, in the order in which they were created. */
export async function listApiKeys(runs: RunsJson): Promise<ListedApiKey[]> {
  const rows = await runs.query(
    `select (to_jsonb(k) - 'secret_hash')::text as json from tessera.api_key k order by created_at, id`,
    [],
  )
  return rows.map(({ json }) => readKey(JSON.parse(json) as StoredKey))
}

/** Revokes a key. @returns false if there is no such key, or it has been revoked before */
export async function revokeApiKey(runs: RunsJson, id: string): Promise<boolean> {
  const [done] = await runs.query('select tessera.revoke_key($1)::text as json', [id])
  return done?.json === 'true'
}

/** Returns true if a key is valid no more by its time. */
export const hasExpired = ({ expiresAt }: Pick<ApiKey, 'expiresAt'>): boolean =>
  expiresAt !== undefined && expiresAt.getTime() <= Date.now()

/** How long loaded keys are used before they are read again: a revoked key works no longer than this. */
const MAX_AGE_MS = 1_000
/** Least interval between reads for keys that are not known: such a key may be new, or invented. */
const MIN_AGE_MS = 100

/** How long keys are waited for if others are remembered. */
const PATIENCE_MS = 250

/**
 * How long the last use of a key is not stored again. A use is stored by any gateway, in the background, and one that is not
 * stored because the database does not answer is stored with the next.
 */
const USE_INTERVAL_S = 300
/** How long uses are collected, to be stored together. */
const COLLECTING_MS = 1_000

type Known = { readonly key: ListedApiKey; readonly secretHash: Buffer }

const tableExists = statementOf(sql`select to_regclass('tessera.api_key') is not null`)
const allKeys = statementOf(
  sql`select (to_jsonb(k) - 'secret_hash')::text, encode(secret_hash, 'hex') from tessera.api_key k
      order by created_at, id`,
)

/** Reads keys at the write port, so that the role that reads features need not see their hashes. */
export function makeApiKeys(database: Database): ApiKeys {
  let known = new Map<string, Known>()
  /** True if there is a key, even a revoked one: revoking the last key must not allow changes without a key again. */
  let hasAny = false
  let loadedAt = Number.NEGATIVE_INFINITY
  let loading: Promise<void> | undefined
  const noteUse = makeUses(database)

  async function load() {
    const startedAt = performance.now()
    const [row] = await database.write(tableExists, { isRepeatable: true })
    const rows = row?.[0] === 't' ? await database.write(allKeys, { isRepeatable: true }) : []
    hasAny = rows.length > 0
    known = new Map(
      rows
        .map(([json, hash]) => [readKey(JSON.parse(json!) as StoredKey), Buffer.from(hash!, 'hex')] as const)
        .filter(([key]) => !key.revokedAt)
        .map(([key, secretHash]) => [key.id, { key, secretHash }]),
    )
    loadedAt = startedAt
  }

  const refresh = async (maxAgeMs: number) => {
    // Without a write port no client can change anything.
    if (!database.canWrite || performance.now() - loadedAt <= maxAgeMs) return
    loading ??= load().finally(() => {
      loading = undefined
    })
    await loading.catch((error) => {
      if (!(error instanceof RefusedChange)) throw error
      throw gatewayError(
        'not-ready',
        'API keys cannot be read: the role of the write port needs USAGE on schema tessera and SELECT on tessera.api_key.',
        {},
        error,
      )
    })
  }

  /** Waits for the keys, but not for long if there are remembered ones. @throws as `exist`, if there are none */
  const refreshPatiently = async (maxAgeMs: number) => {
    const refreshed = refresh(maxAgeMs)
    if (loadedAt === Number.NEGATIVE_INFINITY) return refreshed
    await Promise.race([refreshed.catch(() => {}), sleep(PATIENCE_MS, undefined, { ref: false })])
  }

  const keyOf = (text: string) => {
    const [, id, secret] = KEY.exec(text) ?? []
    const found = id === undefined ? undefined : known.get(id)
    return found && timingSafeEqual(found.secretHash, hashOf(secret!)) ? found.key : undefined
  }
  /** @throws GatewayError credentials-invalid */
  const valid = (text: string) => {
    const key = keyOf(text)
    if (key && hasExpired(key))
      throw gatewayError(
        'credentials-invalid',
        `The API key ${key.id} expired at ${key.expiresAt!.toISOString()}.`,
      )
    if (key) noteUse(key)
    return key
  }

  return {
    async exist() {
      await refresh(MAX_AGE_MS)
      return hasAny
    },
    async find(text) {
      const id = idOfKey(text)
      if (id === undefined) return undefined
      await refresh(known.has(id) ? MAX_AGE_MS : MIN_AGE_MS)
      return valid(text)
    },
    remembered: {
      async exist() {
        await refreshPatiently(MAX_AGE_MS)
        return hasAny
      },
      async find(text) {
        const id = idOfKey(text)
        if (id === undefined) return undefined
        // A key that is not remembered may be new.
        await (known.has(id) ? refreshPatiently(MAX_AGE_MS) : refresh(MIN_AGE_MS))
        return valid(text)
      },
    },
    recognize(authorization) {
      const text = bearerIn(authorization)
      if (text === undefined || !KEY.test(text)) return undefined
      // If keys cannot be read, a change that needs one reports why.
      refresh(MAX_AGE_MS).catch(() => {})
      const key = keyOf(text)
      return key && !hasExpired(key) ? key.id : undefined
    },
    async renew() {
      await loading?.catch(() => {})
      await refresh(0)
    },
    list: () => [...known.values()].map(({ key }) => key),
  }
}

/** Creates what stores the last use of keys, of each at most once in an interval, and never in the way of a request. */
function makeUses(database: Database): (key: ListedApiKey) => void {
  const runs = atWritePort(database, KEY_FUNCTIONS.noteUse)
  /** When the use of a key was last sent to the database. */
  const sentAt = new Map<string, number>()
  let collected: string[] = []
  const isRecent = (time: number | undefined) =>
    time !== undefined && Date.now() - time < USE_INTERVAL_S * 1_000

  function send() {
    const used = JSON.stringify(collected)
    collected = []
    runs
      .query('select tessera.note_use_of_keys($1, $2::integer)::text as json', [used, String(USE_INTERVAL_S)])
      // The next use after the interval is stored; nothing depends on this one.
      .catch(() => {})
  }

  return ({ id, lastUsedAt }) => {
    if (isRecent(lastUsedAt?.getTime()) || isRecent(sentAt.get(id))) return
    sentAt.set(id, Date.now())
    collected.push(id)
    if (collected.length === 1) setTimeout(send, COLLECTING_MS).unref()
  }
}
