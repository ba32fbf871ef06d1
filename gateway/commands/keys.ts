// Owns `tessera keys`: creates, lists, rotates and revokes the API keys with which clients may change features.

import { ConfigError, readConfig } from '../config.ts'
import type { Session } from '../database/session.ts'
import {
  createApiKey,
  hasExpired,
  type ListedApiKey,
  listApiKeys,
  revokeApiKey,
  rotateApiKey,
} from '../features/access/api-key.ts'
import { futureTime, OVERLAP, timeAfter } from '../features/access/lifetime.ts'
import { isRole } from '../features/access/rules.ts'
import { runAsOwner } from './run-as-owner.ts'
import { writeTable } from './table.ts'

const OPTIONS = {
  'read-only': 'flag',
  manage: 'flag',
  grant: 'flag',
  collections: 'value',
  roles: 'value',
  expires: 'value',
  overlap: 'value',
} as const
type Options = Readonly<Partial<Record<keyof typeof OPTIONS, string>>>

/** Options of each action, which takes no others. */
const OPTIONS_OF: Readonly<Record<string, readonly (keyof typeof OPTIONS)[]>> = {
  create: ['read-only', 'manage', 'grant', 'collections', 'roles', 'expires'],
  rotate: ['expires', 'overlap'],
  list: [],
  revoke: [],
}

export async function runKeys(args: readonly string[]) {
  const { config, options, positionals } = readConfig(args, OPTIONS)
  const [action, subject, ...rest] = positionals
  const work = planWork(rest.length > 0 ? undefined : action, subject, options)
  await runAsOwner(config, work)
}

function planWork(
  action: string | undefined,
  subject: string | undefined,
  options: Options,
): (session: Session) => Promise<void> {
  checkOptions(action, options)
  const expiresAt = options.expires === undefined ? undefined : readExpiry(options.expires)
  if (action === 'create' && subject) {
    const key = readKey(subject, options)
    return async (session) => show(await createApiKey(session, { ...key, expiresAt }))
  }
  if (action === 'rotate' && subject) {
    const until = readOverlap(options.overlap ?? OVERLAP)
    return async (session) => {
      const text = await rotateApiKey(session, subject, { until, expiresAt })
      if (text === undefined)
        throw new ConfigError(
          `There is no key ${subject} that is valid; \`tessera keys list\` shows all keys.`,
        )
      process.stderr.write(`${subject} stays valid until ${until.toISOString()} at most.\n`)
      show(text)
    }
  }
  if (action === 'list' && !subject) return list
  if (action === 'revoke' && subject) {
    return async (session) => {
      if (!(await revokeApiKey(session, subject)))
        throw new ConfigError(
          `There is no key ${subject} that can be revoked; \`tessera keys list\` shows all keys.`,
        )
      process.stdout.write(`${subject} is revoked; gateways refuse it within a second.\n`)
    }
  }
  throw new ConfigError(
    'keys takes create NAME, list, rotate ID or revoke ID: tessera keys create "field crew"',
  )
}

function checkOptions(action: string | undefined, options: Options) {
  const taken = OPTIONS_OF[action ?? '']
  const other = Object.keys(options).find((name) => !taken?.includes(name as keyof typeof OPTIONS))
  if (!taken || other === undefined) return
  const known = taken.map((name) => `--${name}`).join(', ')
  throw new ConfigError(`keys ${action} takes no --${other}; it takes ${known || 'no options'}.`)
}

function readKey(name: string, options: Options) {
  const collections = options.collections?.split(',').map((one) => one.trim())
  if (collections?.includes('')) throw new ConfigError('--collections must be names separated by commas.')
  const roles = options.roles?.split(',').map((role) => role.trim())
  if (roles && !roles.every(isRole)) throw new ConfigError('--roles must be roles separated by commas.')
  const isGiven = (flag: 'read-only' | 'manage' | 'grant') => options[flag] === 'true'
  if (isGiven('read-only') && isGiven('manage'))
    throw new ConfigError('--read-only and --manage exclude each other.')
  const ofRoles = (['manage', 'grant'] as const).find((flag) => roles && isGiven(flag))
  if (ofRoles)
    throw new ConfigError(`--${ofRoles} goes without --roles: the role tessera:${ofRoles} is the same.`)
  return {
    name,
    canWrite: !isGiven('read-only'),
    canManage: isGiven('manage'),
    canGrant: isGiven('grant'),
    collections,
    roles,
  }
}

/** The key is the only text on standard output, so that a script can read it. */
function show(text: string) {
  process.stderr.write('This key is shown only once; store it where you keep secrets:\n')
  process.stdout.write(`${text}\n`)
}

function readOverlap(text: string): Date {
  const time = timeAfter(text)
  if (time) return time
  throw new ConfigError(`--overlap must be a number of hours or days, as in 12h or 90d, and not "${text}".`)
}

function readExpiry(text: string): Date {
  const time = futureTime(text)
  if (time) return time
  throw new ConfigError(`--expires must be in the future, as in 90d or 2031-12-31, and not "${text}".`)
}

async function list(session: Session) {
  const keys = await listApiKeys(session)
  const rows = keys.map((key) => [
    key.id,
    key.name,
    rightsOf(key),
    key.collections?.join(',') ?? 'all collections',
    key.createdAt.toISOString(),
    key.expiresAt?.toISOString() ?? 'never',
    key.lastUsedAt?.toISOString() ?? 'never',
  ])
  writeTable([['ID', 'NAME', 'ALLOWS', 'COLLECTIONS', 'CREATED', 'EXPIRES', 'LAST USED'], ...rows])
}

function rightsOf(key: ListedApiKey): string {
  if (key.revokedAt) return `revoked ${key.revokedAt.toISOString()}`
  if (hasExpired(key)) return 'nothing more'
  const rights = key.roles
    ? [`what ${key.roles.length > 0 ? key.roles.join(',') : 'anybody with a key'} may`]
    : [key.canManage ? 'manages' : 'changes']
  return [
    ...(key.canWrite ? rights : key.roles ? [...rights, 'read-only'] : ['read-only']),
    ...(key.canGrant ? ['grants'] : []),
  ].join(', ')
}
