// Owns what pgBackRest reads: where backups and the archived log are, how they are encrypted, and which servers it
// copies.

export type Repository = {
  /** Folder of the backups and the archived log of all groups. */
  readonly folder: string
  /** Passphrase that encrypts them. */
  readonly key: string
  /** Number of full backups of each group that are kept, with all that builds on them. */
  readonly kept: number
}

/** A PostgreSQL that pgBackRest copies, or writes a backup to. */
export type Server = { readonly dataFolder: string; readonly socketFolder: string; readonly port: number }

/** Processes that copy at once: more would take the processors from the server that is copied. */
const PROCESSES = 2

/**
 * Renders the configuration for one group.
 * @param stanza name of the group
 * @param workFolder folder of locks; clusters must not share it, because their groups have the same names
 */
export function renderPgBackRest(
  { folder, key, kept }: Repository,
  stanza: string,
  workFolder: string,
  servers: readonly Server[],
): string {
  const options = {
    'repo1-path': folder,
    'repo1-cipher-type': 'aes-256-cbc',
    'repo1-cipher-pass': key,
    // Small files are stored together; each would be a file of the folder otherwise.
    'repo1-bundle': 'y',
    'repo1-retention-full': kept,
    'compress-type': 'zst',
    'process-max': PROCESSES,
    // A backup begins at once, and does not wait minutes for the next checkpoint.
    'start-fast': 'y',
    // Members archive with archive_mode=always, and node/archive-segment.sh keeps secondaries from pushing.
    'archive-mode-check': 'n',
    'lock-path': workFolder,
    'log-level-file': 'off',
    'log-level-console': 'off',
    'log-level-stderr': 'warn',
    'log-timestamp': 'n',
  }
  const places = servers.flatMap(({ dataFolder, socketFolder, port }, index) => [
    `pg${index + 1}-path=${dataFolder}`,
    `pg${index + 1}-socket-path=${socketFolder}`,
    `pg${index + 1}-port=${port}`,
    `pg${index + 1}-user=postgres`,
  ])
  const lines = Object.entries(options).map(([name, value]) => `${name}=${value}`)
  return ['[global]', ...lines, '', `[${stanza}]`, ...places, ''].join('\n')
}

/** Quotes a word for a shell. */
export const quote = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`
