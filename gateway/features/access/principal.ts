// Owns who asks: the caller of a request, what it may do, and what callers see in common.

import { hash } from 'node:crypto'
import type { ApiKey } from './api-key.ts'

export type Principal = {
  /** Names the caller: the id of an API key, or the issuer and the subject of a token; empty for nobody in particular. */
  readonly id: string
  /** The same for messages, as the subject of a sentence. */
  readonly title: string
  /** Those who see the same rows of every collection. */
  readonly viewers: Viewers
  /** The API key; undefined for others. Without roles it carries rights of its own. */
  readonly key: ApiKey | undefined
  /** Roles that the issuer of a token has given to its subject, or those of a key. */
  readonly roles: ReadonlySet<string>
}

/**
 * Callers who see the same, whatever a policy of the database is. What is shared between callers (look-ups that are joined,
 * answers that are kept) belongs to its viewers, and is read with their claims.
 */
export type Viewers = {
  readonly name: string
  /** Claims of a token as JSON, which policies see; undefined without a token. */
  readonly claims: string | undefined
}

/** Callers without a token, and all callers where policies make no difference. */
export const EVERYBODY: Viewers = { name: 'everybody', claims: undefined }

/** Role of those who may change all collections that have no rule about it, as with an API key for all of them. */
export const WRITE_ROLE = 'tessera:write'
/** Role of those who create, change and remove collections. */
export const MANAGE_ROLE = 'tessera:manage'
/** Role of those who operate the gateway. */
export const OPERATE_ROLE = 'tessera:operate'
/** Role of those who give API keys and set rules, of no more than they may do themselves. */
export const GRANT_ROLE = 'tessera:grant'
/** Role of those who see the audit of all collections that have no auditors of their own. */
export const AUDIT_ROLE = 'tessera:audit'
/** Role of every subject of a token that is accepted, and of every key with roles. */
export const ANY_SUBJECT_ROLE = 'tessera:any'

/** A caller without credentials. */
export const ANYONE: Principal = {
  id: '',
  title: 'A caller without credentials',
  viewers: EVERYBODY,
  key: undefined,
  roles: new Set(),
}

/**
 * A caller without credentials on this machine, while there are none. It gives no keys: they would outlive its own rights,
 * which end with the first key.
 */
export const LOCAL: Principal = {
  ...ANYONE,
  roles: new Set([WRITE_ROLE, MANAGE_ROLE, OPERATE_ROLE, AUDIT_ROLE]),
}

/** Returns the caller that has an API key. */
export const holderOf = (key: ApiKey): Principal => ({
  id: key.id,
  title: `The API key ${key.id}`,
  viewers: EVERYBODY,
  key,
  roles: new Set(key.roles && [...key.roles, ANY_SUBJECT_ROLE]),
})

/** Returns the subject of a token. Ids of API keys have no space. @param claims all of them, as JSON */
export const subjectOf = (
  issuer: string,
  subject: string,
  roles: Iterable<string>,
  claims: string,
): Principal => ({
  id: `${issuer} ${subject}`,
  title: `The subject of this token`,
  viewers: { name: hash('sha256', claims, 'base64url'), claims },
  key: undefined,
  roles: new Set([...roles, ANY_SUBJECT_ROLE]),
})

/** Returns the viewers of what is read of collections: everybody sees the same rows of a steady one. */
export const viewersOf = (
  { viewers }: Principal,
  collections: readonly { readonly isSteady: boolean }[],
): Viewers => (collections.every(({ isSteady }) => isSteady) ? EVERYBODY : viewers)

/** Returns true if a caller has a key with rights of its own, whatever the rules are. */
export const hasOwnRights = (key: ApiKey | undefined): key is ApiKey & { readonly roles: undefined } =>
  key !== undefined && key.roles === undefined

/** Returns true if the caller operates the gateway: with an API key for all collections, or with the role for it. */
export const mayOperate = ({ key, roles }: Principal): boolean =>
  hasOwnRights(key) ? key.collections === undefined : roles.has(OPERATE_ROLE)

/** Returns true if the caller manages collections: with an API key that may, or with the role for it. */
export const mayManage = ({ key, roles }: Principal): boolean =>
  hasOwnRights(key) ? key.canManage : roles.has(MANAGE_ROLE) && key?.canWrite !== false

/** Returns true if the caller gives keys and sets rules: with an API key that may, or with the role for it. */
export const mayGrant = ({ key, roles }: Principal): boolean =>
  hasOwnRights(key) ? key.canGrant : roles.has(GRANT_ROLE)
