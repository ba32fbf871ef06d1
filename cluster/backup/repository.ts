// Owns the folder of a cluster's backups: which cluster it belongs to, its key, and pgBackRest's commands on it.

import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { Account } from '../daemon.ts'
import { ClusterError, makeFolder, type Place, type Programs, readSize, writeOwned } from '../place.ts'
import type { Group, Size } from '../topology.ts'
import { type Repository, renderPgBackRest, type Server } from './pgbackrest-config.ts'

/** File by which the folder of backups is recognized. */
const OWNER_FILE = 'tessera-backups.json'
const KEY_BYTES = 48

/** The cluster that a folder of backups belongs to, and the size to restore it with. */
export type Owner = { readonly folder: string; readonly size: Size }

/** Returns the file of the key if an operator names none: next to the cluster's folder, so that it survives it. */
export const defaultKeyFile = (folder: string) => `${folder}-backup.key`

/**
 * Makes a folder that of a cluster's backups, and creates their key if there is none.
 * @throws ClusterError if the folder has the backups of another cluster, even of one that was in the same place: the log
 * of a restored cluster goes on from the same point as that of the old one
 */
export function claimRepository(place: Place): void {
  const { folder, account, size } = place
  const { backups, backupKey } = size
  if (!backups) return
  if (!relative(folder, backups).startsWith('..'))
    throw new ClusterError(
      `${backups} is within the cluster's folder, which destroy removes; choose another.`,
    )
  const file = join(backups, OWNER_FILE)
  if (existsSync(file)) {
    const owner = readOwner(backups)
    const isOwn = readSize(folder)?.backups === backups || !existsSync(join(backups, 'archive'))
    if (owner.folder !== folder || !isOwn)
      throw new ClusterError(
        `${backups} has the backups of another cluster, which was in ${owner.folder}; choose another folder.`,
      )
    if (!existsSync(backupKey))
      throw new ClusterError(`${backupKey} is missing, with which the backups in ${backups} are encrypted.`)
  }
  mkdirSync(dirname(backups), { recursive: true })
  mkdirSync(backups, { recursive: true, mode: 0o700 })
  if (account) chownSync(backups, account.uid, account.gid)
  if (!existsSync(backupKey))
    writeFileSync(backupKey, `${randomBytes(KEY_BYTES).toString('base64url')}\n`, { mode: 0o600, flag: 'wx' })
  writeOwned(place, file, JSON.stringify({ folder, size } satisfies Owner))
}

/** Returns the cluster that a folder of backups belongs to. @throws ClusterError if it is no such folder */
export function readOwner(backups: string): Owner {
  const file = join(backups, OWNER_FILE)
  if (!existsSync(file)) throw new ClusterError(`There are no backups of a cluster in ${backups}.`)
  return JSON.parse(readFileSync(file, 'utf8'))
}

/** Returns the backups' folder with its key. @throws ClusterError if the key cannot be read */
export function openRepository(backups: string, keyFile: string, kept: number): Repository {
  if (!existsSync(keyFile))
    throw new ClusterError(`There is no key in ${keyFile}; name it with --backup-key.`)
  const key = readFileSync(keyFile, 'utf8').trim()
  if (!/^\S+$/.test(key)) throw new ClusterError(`${keyFile} must have one line without spaces: the key.`)
  return { folder: resolve(backups), key, kept }
}

/** Returns where the cluster's backups are; undefined if it has none. */
export const repositoryOf = ({ size }: Place): Repository | undefined =>
  size.backups ? openRepository(size.backups, size.backupKey, size.backupsKept) : undefined

/** Returns the program. @throws ClusterError if it is not installed */
export function needPgBackRest({ pgbackrest }: Programs): string {
  if (!pgbackrest)
    throw new ClusterError(
      'pgBackRest is missing; `npm run cluster -- setup` installs it on Debian and Ubuntu.',
    )
  return pgbackrest
}

export type Runner = {
  readonly repository: Repository
  readonly program: string
  /** Folder of configurations and locks. */
  readonly workFolder: string
  readonly account: Account | undefined
  readonly environment: Readonly<Record<string, string>>
}

/** Opens pgBackRest on the backups of a cluster that exists. @throws ClusterError if the cluster has none */
export function openRunner(place: Place, programs: Programs, passfile: string): Runner {
  const repository = repositoryOf(place)
  if (!repository)
    throw new ClusterError(
      'This cluster has no backups: up --backup-to FOLDER begins them, see docs/guides/backup.md.',
    )
  return {
    repository,
    program: needPgBackRest(programs),
    workFolder: makeFolder(place, 'run', 'backup'),
    account: place.account,
    environment: { PGPASSFILE: passfile },
  }
}

/**
 * Opens pgBackRest to read backups, which may be those of another cluster.
 * @param workFolder for its configurations: processes that run at the same time must not share one
 */
export const openReader = (
  { account }: Place,
  program: string,
  repository: Repository,
  workFolder: string,
): Runner => ({ repository, program, workFolder, account, environment: {} })

/** Runs a command of pgBackRest on a group's backups. @throws ClusterError with its report if it fails */
export async function runPgBackRest(
  { repository, program, workFolder, account, environment }: Runner,
  { name }: Pick<Group, 'name'>,
  servers: readonly Server[],
  args: readonly string[],
): Promise<string> {
  const file = join(workFolder, `${name}.conf`)
  writeFileSync(file, renderPgBackRest(repository, name, workFolder, servers), { mode: 0o600 })
  if (account) chownSync(file, account.uid, account.gid)
  const words = [`--config=${file}`, `--stanza=${name}`, ...args]
  try {
    const { stdout } = await promisify(execFile)(program, words, {
      // Only what is passed here: variables of pgBackRest's own would replace the configuration.
      env: { PATH: process.env.PATH ?? '', LANG: 'C.UTF-8', HOME: workFolder, ...environment },
      cwd: workFolder,
      maxBuffer: 2 ** 28,
      ...account,
    })
    return stdout
  } catch (error) {
    const { stderr = '', message } = error as Error & { stderr?: string }
    throw new ClusterError(`pgBackRest could not ${args[0]} for group ${name}: ${stderr.trim() || message}`)
  }
}
