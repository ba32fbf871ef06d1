// Owns the rules of a collection: which callers may read it, which may change it and in which way, and which see who has.

import type { ApiKey } from './api-key.ts'
import { AUDIT_ROLE, hasOwnRights, type Principal, WRITE_ROLE } from './principal.ts'

/**
 * Roles of those who may read a collection, create features in it, change them and remove them. Undefined is what holds
 * without a rule: everybody reads, and who may change all collections may change this one.
 */
export type Rules = {
  readonly readers: readonly string[] | undefined
  readonly creators: readonly string[] | undefined
  readonly editors: readonly string[] | undefined
  readonly removers: readonly string[] | undefined
}
export type Group = keyof Rules
export const GROUPS: readonly Group[] = ['readers', 'creators', 'editors', 'removers']

/** Returns true if a text can be a role: it is not empty, and people can read it. */
export const isRole = (text: string) => /^[^\p{C}]+$/u.test(text)

type Ruled = { readonly id: string; readonly rules: Rules | undefined }

/** Returns true if a key is for a collection, and for what the group does. */
export const isKeyFor = ({ canWrite, collections }: ApiKey, collection: string, group: Group): boolean =>
  collections?.includes(collection) !== false && (group === 'readers' || canWrite)

/**
 * Returns true if a caller is among those who may do something. A key without roles has rights of its own, whatever the rule;
 * one with roles has what the rule gives them, within the scope of the key.
 */
export function isAmong(group: Group, { key, roles }: Principal, { id, rules }: Ruled): boolean {
  const named = rules?.[group]
  if (named === undefined && group === 'readers') return true
  if (key && !isKeyFor(key, id, group)) return false
  if (hasOwnRights(key)) return true
  return named === undefined ? roles.has(WRITE_ROLE) : named.some((role) => roles.has(role))
}

type Audited = { readonly id: string; readonly auditors: readonly string[] | undefined }

/** Returns the roles of which a caller needs one to see the audit of a collection. */
export const auditorsOf = ({ auditors }: Audited): readonly string[] => auditors ?? [AUDIT_ROLE]

/** Returns true if a caller may see the audit of a collection. No key may because of its other rights: it needs the role. */
export const mayAudit = ({ key, roles }: Principal, collection: Audited): boolean =>
  key?.collections?.includes(collection.id) !== false &&
  auditorsOf(collection).some((role) => roles.has(role))
