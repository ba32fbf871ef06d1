// Owns the definition of a key, of its rotation and of rules that a client sends: JSON → what is stored, or all faults.

import { pointerOf } from '../../errors.ts'
import { isObject, type JsonObject } from '../values/exact-json.ts'
import { checkMembers, collectFaults, isText, type Report } from '../values/faults.ts'
import type { ApiKey } from './api-key.ts'
import { futureTime, OVERLAP, timeAfter } from './lifetime.ts'
import { GROUPS, isRole, type Rules } from './rules.ts'

/** Longest name of a key, in UTF-16 units: it is for lists. */
const MAX_NAME = 200
/** Most collections or roles of a key, and roles of a group. */
const MAX_ITEMS = 1_000

/** @throws GatewayError key-invalid */
export function parseNewKey(body: unknown): Omit<ApiKey, 'id'> {
  const { report, end } = collectFaults('key-invalid')
  const members = isObject(body) ? body : {}
  if (!isObject(body)) report('', 'must be an object with the name of the key')
  checkMembers(
    members,
    ['name', 'readOnly', 'manage', 'grant', 'collections', 'roles', 'expires'],
    '',
    report,
  )
  const { name } = members
  if (typeof name !== 'string' || name.trim() === '' || name.length > MAX_NAME || !isText(name))
    report('/name', `must be a text of 1 to ${MAX_NAME} characters, which tells keys apart for people`)
  const [readOnly, manage, grant] = (['readOnly', 'manage', 'grant'] as const).map((flag) =>
    readFlag(members, flag, report),
  )
  const collections = readTexts(members.collections, '/collections', report)
  if (collections?.length === 0)
    report('/collections', 'must name a collection; it is left out for all collections')
  const roles = readTexts(members.roles, '/roles', report)
  if (readOnly && manage) report('/manage', 'must be false for a key that is for reading only')
  if (roles && manage) report('/manage', 'goes without roles: the role tessera:manage is the same')
  if (roles && grant) report('/grant', 'goes without roles: the role tessera:grant is the same')
  const expiresAt = readExpiry(members, report)
  end()
  return {
    name: name as string,
    canWrite: !readOnly,
    canManage: manage!,
    canGrant: grant!,
    collections,
    roles,
    expiresAt,
  }
}

/** @returns when the old key expires, and when the new one does, if the client says so @throws GatewayError key-invalid */
export function parseRotation(body: unknown): { until: Date; expiresAt: Date | undefined } {
  const { report, end } = collectFaults('key-invalid')
  const members = isObject(body) ? body : {}
  if (!isObject(body)) report('', 'must be an object, which may be empty')
  checkMembers(members, ['overlap', 'expires'], '', report)
  const { overlap = OVERLAP } = members
  const until = typeof overlap === 'string' ? timeAfter(overlap) : undefined
  if (!until) report('/overlap', 'must be a number of hours or days, as in "12h" or "7d"')
  const expiresAt = readExpiry(members, report)
  end()
  return { until: until!, expiresAt }
}

/** @returns the groups that the body names; undefined for one without a rule @throws GatewayError rules-invalid */
export function parseRules(body: unknown): Partial<Rules> {
  const { report, end } = collectFaults('rules-invalid')
  const members = isObject(body) ? body : {}
  if (!isObject(body)) report('', 'must be an object with the groups that are to be set')
  checkMembers(members, GROUPS, '', report)
  const named = GROUPS.filter((group) => members[group] !== undefined)
  const rules = Object.fromEntries(
    named.map((group) => [group, readTexts(members[group], pointerOf(group), report)]),
  )
  end()
  return rules
}

function readFlag(members: JsonObject, name: string, report: Report): boolean {
  const value = members[name] ?? false
  if (typeof value !== 'boolean') report(pointerOf(name), 'must be true or false')
  return value === true
}

/** Reads names of collections or roles; undefined if there is no list. */
function readTexts(value: unknown, pointer: string, report: Report): readonly string[] | undefined {
  if (value === undefined || value === null) return undefined
  if (!Array.isArray(value) || value.length > MAX_ITEMS) {
    report(pointer, `must be a list of at most ${MAX_ITEMS} names, or null`)
    return undefined
  }
  for (const [index, one] of value.entries())
    if (typeof one !== 'string' || !isRole(one))
      report(`${pointer}/${index}`, 'must be a name: a text that is not empty, without control characters')
  return value as string[]
}

function readExpiry({ expires }: JsonObject, report: Report): Date | undefined {
  if (expires === undefined || expires === null) return undefined
  const time = typeof expires === 'string' ? futureTime(expires) : undefined
  if (!time) report('/expires', 'must be in the future, as in "90d" or "2031-12-31"')
  return time
}
