// Owns what callers may give to others: no key with a right that they do not have themselves, and no rule about what they may
// not do.

import { type Fault, listed, pointerOf, quoted } from '../../errors.ts'
import type { ApiKey } from './api-key.ts'
import {
  GRANT_ROLE,
  hasOwnRights,
  MANAGE_ROLE,
  mayGrant,
  mayManage,
  mayOperate,
  OPERATE_ROLE,
  type Principal,
} from './principal.ts'
import { GROUPS, isAmong, type Rules } from './rules.ts'

/** What a key permits. */
export type Rights = Pick<ApiKey, 'canWrite' | 'canManage' | 'canGrant' | 'collections' | 'roles'>

/** Returns what a key would permit beyond the rights of its giver, who gives keys, as faults of its definition. */
export function excessOf(giver: Principal, rights: Rights): Fault[] {
  const own = giver.key
  const excess: Fault[] = []
  if (own && !own.canWrite && rights.canWrite)
    excess.push({
      pointer: '/readOnly',
      detail: `must be true, because ${nameOf(giver)} is for reading only`,
    })
  if (own?.collections) {
    const others = rights.collections?.filter((id) => !own.collections!.includes(id))
    if (!others) excess.push({ pointer: '/collections', detail: `must be among ${listed(own.collections)}` })
    for (const id of others ?? [])
      excess.push({
        pointer: pointerOf('collections', String(rights.collections!.indexOf(id))),
        detail: `is ${quoted(id)}, and ${nameOf(giver)} is only for ${listed(own.collections)}`,
      })
  }
  return [
    ...excess,
    ...(rights.roles ? excessOfRoles(giver, rights.roles) : excessOfOwnRights(giver, rights)),
  ]
}

/** Returns how much longer than its giver a key would live, as faults of its definition. @param expiresAt undefined for as long */
export function excessOfTime({ key, title }: Principal, expiresAt: Date | undefined): Fault[] {
  if (!key?.expiresAt || !expiresAt || expiresAt <= key.expiresAt) return []
  return [
    {
      pointer: '/expires',
      detail: `must not be after ${key.expiresAt.toISOString()}, when ${lowered(title)} expires`,
    },
  ]
}

function excessOfOwnRights(giver: Principal, { canManage, canGrant }: Rights): Fault[] {
  if (!hasOwnRights(giver.key))
    return [
      {
        pointer: '/roles',
        detail: `must be there: a key without roles has rights whatever the rules are, and ${nameOf(giver)} has none of these`,
      },
    ]
  const excess: Fault[] = []
  if (canManage && !giver.key.canManage)
    excess.push({ pointer: '/manage', detail: `must be false: ${nameOf(giver)} manages no collections` })
  if (canGrant && !giver.key.canGrant)
    excess.push({ pointer: '/grant', detail: `must be false: ${nameOf(giver)} gives no keys` })
  return excess
}

/**
 * A key without roles passes rules, so that it may give any role for what it is for; but some roles are rights by themselves.
 */
function excessOfRoles(giver: Principal, roles: readonly string[]): Fault[] {
  const isAllowed = (role: string) => {
    if (!hasOwnRights(giver.key)) return giver.roles.has(role)
    if (role === MANAGE_ROLE) return mayManage(giver)
    if (role === GRANT_ROLE) return mayGrant(giver)
    return role !== OPERATE_ROLE || mayOperate(giver)
  }
  return roles.flatMap((role, index) =>
    isAllowed(role)
      ? []
      : [
          {
            pointer: pointerOf('roles', String(index)),
            detail: `is ${quoted(role)}, which ${nameOf(giver)} does not have`,
          },
        ],
  )
}

/** Returns groups of a rule that a caller may not set, because it is not among them, as faults of the rule. */
export function excessOfRule(
  giver: Principal,
  collection: Parameters<typeof isAmong>[2],
  rule: Partial<Rules>,
): Fault[] {
  return GROUPS.filter((group) => group in rule && !isAmong(group, giver, collection)).map((group) => ({
    pointer: pointerOf(group),
    detail: `cannot be set by ${nameOf(giver)}, which is not among the ${group}`,
  }))
}

const nameOf = ({ title }: Principal) => lowered(title)
const lowered = (title: string) => title.charAt(0).toLowerCase() + title.slice(1)
