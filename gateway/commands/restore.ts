// Owns `tessera restore`: returns the embedded database to a time, from its backups.

import { resolve } from 'node:path'
import { ConfigError, isEmbedded, readConfig } from '../config.ts'
import { addressOf, defaultKeyFile, readRepository } from '../database/embedded-backup.ts'
import { archiveNow, restoreEmbedded } from '../database/embedded-restore.ts'
import { openTerminal } from '../terminal.ts'
import { abortedBy } from './backup.ts'
import { INTERRUPTIONS, OTHERS_BACKUPS, programsOf, runUntilSignal } from './lifecycle.ts'

export async function runRestore(args: readonly string[]) {
  const { config, options, positionals } = readConfig(args, { to: 'value', into: 'value', from: 'value' })
  if (positionals.length > 0)
    throw new ConfigError(`restore takes no argument such as ${positionals[0]}; the time is that of --to.`)
  if (!isEmbedded(config)) throw new ConfigError(OTHERS_BACKUPS)
  const { data, backupKey, backupStore } = config
  const target = options.to === undefined ? undefined : pastTime(options.to)
  const own = await readRepository(data)
  if (!own && options.from === undefined)
    throw new ConfigError(`The database in ${data} has no backups; name the folder of others with --from.`)
  const folder = options.from === undefined ? own!.folder : addressOf(options.from)
  const isOwn = folder === own?.folder
  const keyFile = resolve(backupKey ?? (isOwn ? own!.keyFile : defaultKeyFile(data)))
  const ownStore = isOwn ? own!.store : undefined
  const store = backupStore === undefined ? ownStore : resolve(backupStore)
  const root = options.into ?? data
  const say = (line: string) => process.stdout.write(`${line}\n`)
  const interruptedBy = await runUntilSignal(openTerminal(process.stderr), async (cleanup) => {
    if (isOwn && options.into !== undefined) await archiveNow(data)
    const programs = await programsOf(config)
    const { lastChangeAt, former } = await abortedBy(cleanup, (signal) =>
      restoreEmbedded({
        root,
        repository: { folder, store, keyFile, kept: own?.kept ?? 1 },
        target,
        ...programs,
        report: say,
        signal,
      }),
    )
    say(`restored in ${root}; the last change that it has is of ${lastChangeAt.toISOString()}`)
    if (former) say(`what was there before is in ${former}: remove it when nothing of it is needed`)
    say(
      isOwn && options.into === undefined
        ? 'it is backed up as before: tessera serve archives its log, and tessera backup copies it'
        : `tessera serve --data ${root} serves it; --backup-to begins backups, in a folder of their own`,
    )
  })
  if (interruptedBy) process.exitCode = INTERRUPTIONS[interruptedBy]
}

function pastTime(text: string): Date {
  const time = new Date(/^\d{4}-\d\d-\d\d/.test(text) ? text : Number.NaN)
  if (!(time.getTime() <= Date.now()))
    throw new ConfigError(`--to=${text}: must be a time in the past, such as 2026-11-27T15:30:00Z.`)
  return time
}
