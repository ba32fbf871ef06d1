// Owns what is right and wrong about the roles with which a gateway connects: a role should have no more privileges than
// its work needs. It does no I/O.

import type { RoleFacts } from '../../database/server-facts.ts'
import { type Finding, inSql, judgeEnd } from './finding.ts'

export type Purpose = 'read' | 'write' | 'owner'

const DOES: Readonly<Record<Purpose, string>> = {
  read: 'reads',
  write: 'changes features',
  owner: 'owns tables',
}

const listed = ({ count, some }: RoleFacts['owned']) => {
  const names = (some ?? []).join(', ')
  return count > (some?.length ?? 0) ? `${names} and ${count - some!.length} more` : names
}

/** Returns what is wrong with a role. @param isShared true if the role of another purpose is the same */
export function judgeRole(
  purpose: Purpose,
  role: RoleFacts,
  isShared: boolean,
  nowMs: number,
): readonly Finding[] {
  const name = inSql(role.name)
  const found: Finding[] = []
  const subject = `role ${role.name}`
  const add = (severity: Finding['severity'], check: string, finding: string, remedy: string) =>
    found.push({ severity, check, subject, finding, remedy })
  if (role.passwordEndsMs !== null)
    found.push(
      ...judgeEnd(
        'password-end',
        subject,
        'Its password',
        role.passwordEndsMs,
        `alter role ${name} password '…' valid until '…';`,
        nowMs,
      ),
    )
  if (role.isSuperuser) {
    add(
      purpose === 'owner' ? 'warning' : 'fault',
      'superuser',
      `The role that ${DOES[purpose]} is a superuser: no right of PostgreSQL limits what a fault or an intruder can do.`,
      'Run sql/bootstrap/roles.sql, and connect with the roles that it creates.',
    )
    // A superuser has all the other privileges, too.
    return found
  }
  const attributes = [
    role.canCreateRoles && 'createrole',
    role.canCreateDatabases && 'createdb',
    role.canReplicate && 'replication',
    role.bypassesRowSecurity && purpose !== 'owner' && 'bypassrls',
  ].filter((one) => one !== false)
  if (attributes.length > 0)
    add(
      'warning',
      'role-attributes',
      `The role that ${DOES[purpose]} has ${attributes.join(', ')}, which it does not need.`,
      `alter role ${name} ${attributes.map((one) => `no${one}`).join(' ')};`,
    )
  const powers = role.powers.filter((power) => purpose !== 'read' || power !== 'pg_read_all_data')
  if (powers.length > 0)
    add(
      'warning',
      'role-powers',
      `The role that ${DOES[purpose]} is a member of ${powers.join(', ')}, which reach beyond the tables that it needs.`,
      `revoke ${powers.join(', ')} from ${name};`,
    )
  if (purpose === 'owner') return found

  if (role.owned.count > 0)
    add(
      'warning',
      'role-owns',
      `The role that ${DOES[purpose]} owns ${listed(role.owned)}: it can change their columns, and drop them.`,
      isShared
        ? 'Give imports and migrations a role of their own (TESSERA_OWNER_URL); sql/bootstrap/roles.sql creates the three.'
        : 'alter table … owner to another role.',
    )
  else if (purpose === 'read' && role.changeable.count > 0)
    add(
      'warning',
      'reader-changes',
      `The role that reads may change ${listed(role.changeable)}.`,
      `revoke insert, update, delete on … from ${name}; or name a role that only reads in TESSERA_READ_URL.`,
    )
  if (purpose === 'write' && role.owned.count === 0 && role.truncatable.count > 0)
    add(
      'warning',
      'writer-truncates',
      `The role that changes features may empty ${listed(role.truncatable)} at once.`,
      `revoke truncate on … from ${name};`,
    )
  const places = [
    ...(role.canCreateSchemas ? ['the database'] : []),
    ...role.creatable.map((one) => `schema ${one}`),
  ]
  if (places.length > 0)
    add(
      'warning',
      'role-creates',
      `The role that ${DOES[purpose]} may create things in ${places.join(', ')}.`,
      `revoke create on ${role.canCreateSchemas ? 'database …' : `schema ${role.creatable.map(inSql).join(', ')}`} from ${name}, public;`,
    )
  return found
}
