// Owns `tessera purge`: all processes of all gateways give up what they keep of a collection, or of all.

import { ConfigError, readConfig } from '../config.ts'
import { purgeCollections } from '../features/collections/purge.ts'
import { openTerminal } from '../terminal.ts'
import { runUntilSignal, withOwner } from './lifecycle.ts'
import { openCollections } from './open-collections.ts'

export async function runPurge(args: readonly string[]) {
  const { config, positionals } = readConfig(args)
  const [id, ...rest] = positionals
  if (rest.length > 0)
    throw new ConfigError('purge takes one collection, or none for all: tessera purge cities')
  const emit = openTerminal(process.stderr)
  await runUntilSignal(emit, async (cleanup) => {
    const { addresses, catalog } = await openCollections(config, cleanup, emit)
    const collections = id === undefined ? catalog.list() : [catalog.get(id)]
    await withOwner(addresses, emit, (session) => purgeCollections(session, collections))
    const what = id === undefined ? 'All collections are' : `${id} is`
    process.stdout.write(`${what} purged; gateways read tiles anew within three seconds.\n`)
  })
}
