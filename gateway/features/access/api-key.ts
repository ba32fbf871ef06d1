// Owns API keys: the owner of the database creates, lists, rotates and revokes them, and gateways check them.

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Database } from '../../database/contract.ts'
import { RefusedChange } from '../../database/outcome.ts'
import type { Session } from '../../database/session.ts'
import { sql } from '../../database/sql.ts'
import { statementOf } from '../../database/template.ts'
import { gatewayError } from '../../errors.ts'

export type ApiKey = {
  readonly id: string
  readonly name: string
  readonly canWrite: boolean
  /** True if it may also create, change and remove collections. */
  readonly canManage: boolean
  /** Ids of the collections for which the key is valid; undefined for all. */
  readonly collections: readonly string[] | undefined
  /** From when on it is valid no more; undefined if it never expires. */
  readonly expiresAt?: Date | undefined
}

export type NewApiKey = Omit<ApiKey, 'id'>

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

/** Creates a key. @returns its text, which is not stored and cannot be shown again */
export async function createApiKey(session: Session, key: NewApiKey): Promise<string> {
  const { id, secret, text } = drawKey()
  await session.query(
    `insert into tessera.api_key (id, name, secret_hash, can_write, can_manage, collections, expires_at)
     values ($1, $2, $3, $4, $5, $6, $7)`,
    [
      ...[id, key.name, hashOf(secret), key.canWrite, key.canManage],
      ...[key.collections ?? null, key.expiresAt ?? null],
    ],
  )
  return text
}

function drawKey() {
  const id = randomBytes(ID_BYTES).toString('hex')
  const secret = randomBytes(SECRET_BYTES).toString('base64url')
  return { id, secret, text: `${PREFIX}_${id}_${secret}` }
}

/**
 * Creates a key that may do the same as another one, and lets that one expire.
 * @param until when the old key expires, unless it does earlier
 * @param expiresAt when the new key does; undefined if it lives as long as the old one was meant to
 * @returns the text of the new key; undefined if there is no such key, or it has been revoked or has expired
 */
export async function rotateApiKey(
  session: Session,
  oldId: string,
  until: Date,
  expiresAt: Date | undefined,
): Promise<string | undefined> {
  const { id, secret, text } = drawKey()
  const created = await session.query(
    `with old as (
       select * from tessera.api_key
       where id = $1 and revoked_at is null and (expires_at is null or expires_at > now()) for update
     ), expiring as (
       update tessera.api_key k set expires_at = least(k.expires_at, $4) from old where k.id = old.id
     )
     insert into tessera.api_key (id, name, secret_hash, can_write, can_manage, collections, expires_at)
     select $2, name, $3, can_write, can_manage, collections, coalesce($5, now() + (expires_at - created_at))
     from old returning id`,
    [oldId, id, hashOf(secret), until, expiresAt ?? null],
  )
  return created.length > 0 ? text : undefined
}

export type ListedApiKey = ApiKey & { readonly createdAt: Date; readonly revokedAt: Date | undefined }

export async function listApiKeys(session: Session): Promise<ListedApiKey[]> {
  const rows = await session.query<{
    id: string
    name: string
    can_write: boolean
    can_manage: boolean
    collections: string[] | null
    created_at: Date
    expires_at: Date | null
    revoked_at: Date | null
  }>(
    `select id, name, can_write, can_manage, collections, created_at, expires_at, revoked_at
     from tessera.api_key order by created_at`,
    [],
  )
  return rows.map((row) => ({
    id: row.id,
    name: row.name,
    canWrite: row.can_write,
    canManage: row.can_manage,
    collections: row.collections ?? undefined,
    createdAt: row.created_at,
    expiresAt: row.expires_at ?? undefined,
    revokedAt: row.revoked_at ?? undefined,
  }))
}

/** Revokes a key. @returns false if there is no such key, or it has been revoked before */
export async function revokeApiKey(session: Session, id: string): Promise<boolean> {
  const rows = await session.query(
    'update tessera.api_key set revoked_at = now() where id = $1 and revoked_at is null returning id',
    [id],
  )
  return rows.length > 0
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

type Known = { readonly key: ApiKey; readonly secretHash: Buffer }

const tableExists = statementOf(sql`select to_regclass('tessera.api_key') is not null`)
const allKeys = statementOf(
  // A database that was not migrated yet lacks can_manage and expires_at.
  sql`select id, name, can_write, array_to_json(collections), encode(secret_hash, 'hex'), revoked_at is not null,
        coalesce((to_jsonb(k) ->> 'can_manage')::boolean, false),
        extract(epoch from (to_jsonb(k) ->> 'expires_at')::timestamptz) * 1000
      from tessera.api_key k`,
)

/** Reads keys at the write port, so that the role that reads features need not see their hashes. */
export function makeApiKeys(database: Database): ApiKeys {
  let known = new Map<string, Known>()
  /** True if there is a key, even a revoked one: revoking the last key must not allow changes without a key again. */
  let hasAny = false
  let loadedAt = Number.NEGATIVE_INFINITY
  let loading: Promise<void> | undefined

  async function load() {
    const startedAt = performance.now()
    const [row] = await database.write(tableExists, { isRepeatable: true })
    const rows = row?.[0] === 't' ? await database.write(allKeys, { isRepeatable: true }) : []
    hasAny = rows.length > 0
    known = new Map(
      rows
        .filter((row) => row[5] === 'f')
        .map(([id, name, canWrite, collections, secretHash, , canManage, expiresMs]) => [
          id!,
          {
            key: {
              id: id!,
              name: name!,
              canWrite: canWrite === 't',
              canManage: canManage === 't',
              collections: collections == null ? undefined : (JSON.parse(collections) as string[]),
              expiresAt: expiresMs == null ? undefined : new Date(Number(expiresMs)),
            },
            secretHash: Buffer.from(secretHash!, 'hex'),
          },
        ]),
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
    return key
  }

  return {
    async exist() {
      await refresh(MAX_AGE_MS)
      return hasAny
    },
    async find(text) {
      const id = KEY.exec(text)?.[1]
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
        const id = KEY.exec(text)?.[1]
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
  }
}
