// Owns who asks: the caller of a request, what it may do, and what callers see in common.

import type { ApiKey } from './api-key.ts'

export type Principal = {
  /** Names the caller: the id of an API key, or the issuer and the subject of a token; empty for nobody in particular. */
  readonly id: string
  /** The same for messages, as the subject of a sentence. */
  readonly title: string
  /**
   * Names what the caller may see. Whatever is shared between callers (look-ups that are joined, answers that are kept)
   * is shared by those of the same view alone.
   */
  readonly view: string
  /** The API key; undefined for others. It carries rights of its own. */
  readonly key: ApiKey | undefined
  /** Roles that the issuer of a token has given to its subject. */
  readonly roles: ReadonlySet<string>
}

/** Everything is for everybody to see. */
const PUBLIC = 'public'

/** Role of those who may change all collections that have no rule about it, as with an API key for all of them. */
export const WRITE_ROLE = 'tessera:write'
/** Role of those who create, change and remove collections. */
export const MANAGE_ROLE = 'tessera:manage'
/** Role of those who operate the gateway. */
export const OPERATE_ROLE = 'tessera:operate'
/** Role of every subject of a token that is accepted. */
export const ANY_SUBJECT_ROLE = 'tessera:any'

/** A caller without credentials. */
export const ANYONE: Principal = {
  id: '',
  title: 'A caller without credentials',
  view: PUBLIC,
  key: undefined,
  roles: new Set(),
}

/** A caller without credentials on this machine, while there are none. */
export const LOCAL: Principal = { ...ANYONE, roles: new Set([WRITE_ROLE, MANAGE_ROLE, OPERATE_ROLE]) }

/** Returns the caller that has an API key. */
export const holderOf = (key: ApiKey): Principal => ({
  id: key.id,
  title: `The API key ${key.id}`,
  view: PUBLIC,
  key,
  roles: new Set(),
})

/** Returns the subject of a token. Ids of API keys have no space. */
export const subjectOf = (issuer: string, subject: string, roles: Iterable<string>): Principal => ({
  id: `${issuer} ${subject}`,
  title: `The subject of this token`,
  view: PUBLIC,
  key: undefined,
  roles: new Set([...roles, ANY_SUBJECT_ROLE]),
})

/** Returns true if the caller operates the gateway: with an API key for all collections, or with the role for it. */
export const mayOperate = ({ key, roles }: Principal): boolean =>
  key ? key.collections === undefined : roles.has(OPERATE_ROLE)

/** Returns true if the caller manages collections: with an API key that may, or with the role for it. */
export const mayManage = ({ key, roles }: Principal): boolean =>
  key ? key.canManage : roles.has(MANAGE_ROLE)
