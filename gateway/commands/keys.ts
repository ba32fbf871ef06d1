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
import { openTerminal } from '../terminal.ts'
import { findDatabase, runUntilSignal, withOwner } from './lifecycle.ts'
import { writeTable } from './table.ts'

const OPTIONS = {
  'read-only': 'flag',
  manage: 'flag',
  collections: 'value',
  expires: 'value',
  overlap: 'value',
} as const

/** How long the old key stays valid after a rotation. */
const OVERLAP = '7d'
const UNIT_MS: Readonly<Record<string, number>> = { h: 3_600_000, d: 86_400_000 }

export async function runKeys(args: readonly string[]) {
  const { config, options, positionals } = readConfig(args, OPTIONS)
  const [action, subject, ...rest] = positionals
  const work = planWork(rest.length > 0 ? undefined : action, subject, options)
  const emit = openTerminal(process.stderr)
  await runUntilSignal(emit, async (cleanup) => {
    const { addresses } = await findDatabase(config, cleanup, true, emit)
    await withOwner(addresses, emit, work)
  })
}

function planWork(
  action: string | undefined,
  subject: string | undefined,
  options: Readonly<Partial<Record<keyof typeof OPTIONS, string>>>,
): (session: Session) => Promise<void> {
  const expiresAt = options.expires === undefined ? undefined : futureTime(options.expires)
  if (action === 'create' && subject) {
    const collections = options.collections?.split(',').map((name) => name.trim())
    if (collections?.includes('')) throw new ConfigError('--collections must be names separated by commas.')
    if (options['read-only'] === 'true' && options.manage === 'true')
      throw new ConfigError('--read-only and --manage exclude each other.')
    return async (session) => {
      const text = await createApiKey(session, {
        name: subject,
        canWrite: options['read-only'] !== 'true',
        canManage: options.manage === 'true',
        collections,
        expiresAt,
      })
      show(text)
    }
  }
  if (action === 'rotate' && subject) {
    const until = timeAfter(options.overlap ?? OVERLAP, '--overlap')
    return async (session) => {
      const text = await rotateApiKey(session, subject, until, expiresAt)
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

/** The key is the only text on standard output, so that a script can read it. */
function show(text: string) {
  process.stderr.write('This key is shown only once; store it where you keep secrets:\n')
  process.stdout.write(`${text}\n`)
}

/** Returns the time that lies this long ahead, as in 12h or 90d. */
function timeAfter(text: string, option: string): Date {
  const [, count, unit] = /^(\d{1,5})([hd])$/.exec(text) ?? []
  if (unit === undefined)
    throw new ConfigError(`${option} must be a number of hours or days, as in 12h or 90d, and not "${text}".`)
  return new Date(Date.now() + Number(count) * UNIT_MS[unit]!)
}

/** Returns when a key expires: so long ahead, or at the start of a date. */
function futureTime(text: string): Date {
  const time = /^\d{4}-\d\d-\d\d/.test(text) ? new Date(text) : timeAfter(text, '--expires')
  if (!(time.getTime() > Date.now()))
    throw new ConfigError(`--expires must be in the future, as in 90d or 2031-12-31, and not "${text}".`)
  return time
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
  ])
  writeTable([['ID', 'NAME', 'ALLOWS', 'COLLECTIONS', 'CREATED', 'EXPIRES'], ...rows])
}

function rightsOf(key: ListedApiKey): string {
  if (key.revokedAt) return `revoked ${key.revokedAt.toISOString()}`
  if (hasExpired(key)) return 'nothing more'
  if (key.canManage) return 'manages'
  return key.canWrite ? 'changes' : 'read-only'
}
