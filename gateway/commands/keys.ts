// Owns `tessera keys`: creates, lists and revokes the API keys with which clients may change features.

import { ConfigError, readConfig } from '../config.ts'
import type { Session } from '../database/session.ts'
import { createApiKey, listApiKeys, revokeApiKey } from '../features/access/api-key.ts'
import { openTerminal } from '../terminal.ts'
import { findDatabase, runUntilSignal, withOwner } from './lifecycle.ts'
import { writeTable } from './table.ts'

const OPTIONS = { 'read-only': 'flag', manage: 'flag', collections: 'value' } as const

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
      })
      // The key is the only text on standard output, so that a script can read it.
      process.stderr.write('This key is shown only once; store it where you keep secrets:\n')
      process.stdout.write(`${text}\n`)
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
  throw new ConfigError('keys takes create NAME, list or revoke ID: tessera keys create "field crew"')
}

async function list(session: Session) {
  const keys = await listApiKeys(session)
  const rows = keys.map(({ id, name, canWrite, canManage, collections, createdAt, revokedAt }) => [
    id,
    name,
    revokedAt
      ? `revoked ${revokedAt.toISOString()}`
      : canManage
        ? 'manages'
        : canWrite
          ? 'changes'
          : 'read-only',
    collections?.join(',') ?? 'all collections',
    createdAt.toISOString(),
  ])
  writeTable([['ID', 'NAME', 'ALLOWS', 'COLLECTIONS', 'CREATED'], ...rows])
}
