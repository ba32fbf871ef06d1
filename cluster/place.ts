// Owns where a cluster is on this machine: its folder, its programs, and the size that it was created with.

import { execFileSync } from 'node:child_process'
import {
  accessSync,
  chownSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { type Account, findAccount } from './daemon.ts'
import { PATRONI_VERSION } from './patroni-config.ts'
import { DEFAULT_SIZE, makeTopology, type Size, type Topology } from './topology.ts'

export type Place = {
  readonly folder: string
  readonly runFolder: string
  readonly account: Account | undefined
  readonly size: Size
  readonly topology: Topology
}

/** A failure that a person has to put right; its message explains how. */
export class ClusterError extends Error {}

/** Root's clone is usually in root's home, which the account of PostgreSQL cannot enter. */
const DEFAULT_FOLDER =
  process.getuid?.() === 0 ? '/var/lib/tessera-cluster' : resolve(import.meta.dirname, '../.cluster')

/** File by which a cluster's folder is recognized: nothing else writes a file of this name. */
const SIZE_FILE = 'tessera-cluster.json'

/** Properties that may differ from the size that a cluster was created with. */
const CHANGEABLE = ['gateways', 'demo', 'backups', 'backupKey', 'backupsKept']

/** Returns the folder of a cluster, or of the usual one if none is named. */
export const folderOf = (folder: string | undefined) => resolve(folder ?? DEFAULT_FOLDER)

/** Returns the place of a cluster. @param size as requested; an existing cluster keeps the size of its creation */
export function findPlace(folder: string | undefined, size: Partial<Size>): Place {
  const place = folderOf(folder)
  const made = readSize(place)
  const wanted = { ...DEFAULT_SIZE, ...made, ...size }
  for (const [name, value] of Object.entries(made ?? {})) {
    if (!CHANGEABLE.includes(name) && wanted[name as keyof Size] !== value)
      throw new ClusterError(
        `The cluster in ${place} was created with ${name} ${value}; destroy it first, or name another folder with --data.`,
      )
  }
  return {
    folder: place,
    runFolder: join(place, 'run'),
    account: findAccount(),
    size: wanted,
    topology: makeTopology(wanted),
  }
}

/** Returns the size of the cluster in a folder; undefined if there is none. */
export function readSize(folder: string): Size | undefined {
  const file = join(folder, SIZE_FILE)
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Size) : undefined
}

/** Returns true if a cluster was created here. */
export const isMade = ({ folder }: Place) => existsSync(join(folder, SIZE_FILE))

/** Returns the same place with another number of workers; makePlace records it. */
export function resizePlace(place: Place, workers: number): Place {
  const size = { ...place.size, workers }
  return { ...place, size, topology: makeTopology(size) }
}

/** Creates the folder, which only its account can enter, and records the size. */
export function makePlace(place: Place) {
  makeFolder(place, 'run')
  writeOwned(place, join(place.folder, SIZE_FILE), JSON.stringify(place.size))
}

/** Creates a folder within the cluster's; only the cluster's account can enter it. */
export function makeFolder({ folder, account }: Place, ...names: readonly string[]): string {
  mkdirSync(dirname(folder), { recursive: true })
  let path = folder
  for (const name of ['', ...names]) {
    path = join(path, name)
    if (!existsSync(path)) mkdirSync(path, { mode: 0o700 })
    if (account) chownSync(path, account.uid, account.gid)
  }
  return path
}

export const memberFolderOf = ({ folder }: Place, member: string) => join(folder, 'members', member)
/** Returns the data folder of a member's PostgreSQL. */
export const dataFolderOf = (place: Place, member: string) => join(memberFolderOf(place, member), 'data')

/** Creates a member's folder; if disks have a size, mounts a file system there, which can fill up without harm. */
export function makeMemberFolder(place: Place, member: string): string {
  const folder = makeFolder(place, 'members', member)
  const { account, size } = place
  if (!size.disk || isMounted(folder)) return folder
  if (!account) throw new ClusterError('--disk needs root: it mounts a file system for each member.')
  const options = `size=${size.disk}m,mode=0700,uid=${account.uid},gid=${account.gid}`
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tessera', folder])
  return folder
}

export const isMounted = (folder: string) =>
  readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[1] === folder)

export function unmountMembers(place: Place) {
  for (const { name } of place.topology.members) {
    const folder = memberFolderOf(place, name)
    if (place.size.disk && isMounted(folder)) execFileSync('umount', [folder])
  }
}

/** Writes a file that only the cluster's account can read. */
export function writeOwned({ account }: Place, path: string, text: string) {
  writeFileSync(path, text, { mode: 0o600 })
  if (account) chownSync(path, account.uid, account.gid)
}

export type Programs = {
  readonly postgresBinaries: string
  readonly hasCitus: boolean
  /** The Python of the environment in which Patroni is installed. */
  readonly python: string
  readonly etcd: string
  readonly haproxy: string
  readonly tini: string
  /** pgBackRest; undefined if it is not installed. Only backups need it. */
  readonly pgbackrest: string | undefined
}

/** Returns the folder of the tools, which is next to the data, so that it survives the destruction of the cluster. */
export const toolsOf = ({ folder }: Place) => `${folder}-tools`

/** Finds the programs of a cluster. @throws ClusterError with the names of those that are missing */
export function findPrograms(place: Place): Programs {
  const missing: string[] = []
  const need = (name: string, found: string | undefined) => {
    if (!found) missing.push(name)
    return found ?? ''
  }
  const postgres = findPostgres()
  const programs = {
    postgresBinaries: need('PostgreSQL ≥ 15 with PostGIS', postgres),
    hasCitus: postgres !== undefined && hasExtension(postgres, 'citus'),
    python: need(
      `Patroni ${PATRONI_VERSION}`,
      hasPatroni(place) ? join(toolsOf(place), 'bin/python') : undefined,
    ),
    etcd: need('etcd', findProgram('etcd')),
    haproxy: need('HAProxy', findProgram('haproxy')),
    tini: need('tini', findProgram('tini')),
    pgbackrest: findProgram('pgbackrest'),
  }
  if (missing.length === 0) return programs
  throw new ClusterError(`Missing: ${missing.join(', ')}; \`npm run cluster -- setup\` installs what it can.`)
}

/** Returns true if Patroni is installed, in the release that guarded-patroni.py is written for. */
export function hasPatroni(place: Place): boolean {
  const libraries = join(toolsOf(place), 'lib')
  if (!existsSync(libraries)) return false
  return readdirSync(libraries).some((python) =>
    existsSync(join(libraries, python, 'site-packages', `patroni-${PATRONI_VERSION}.dist-info`)),
  )
}

/** Finds a program in the PATH, or in /usr/sbin, which is not in every user's PATH. */
export function findProgram(name: string): string | undefined {
  return `${process.env.PATH ?? ''}:/usr/sbin`
    .split(':')
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK)
        return true
      } catch {
        return false
      }
    })
}

const ask = (binaries: string, option: string) =>
  execFileSync(join(binaries, 'pg_config'), [option], { encoding: 'utf8' }).trim()

const hasExtension = (binaries: string, name: string) =>
  existsSync(join(ask(binaries, '--sharedir'), 'extension', `${name}.control`))

/** Returns the newest PostgreSQL with PostGIS, preferring those with Citus. */
function findPostgres(): string | undefined {
  const root = '/usr/lib/postgresql'
  if (!existsSync(root)) return undefined
  const found = readdirSync(root)
    .filter((major) => Number(major) >= 15)
    .map((major) => join(root, major, 'bin'))
    .filter((binaries) => existsSync(join(binaries, 'pg_config')) && hasExtension(binaries, 'postgis'))
  const rank = (binaries: string) =>
    Number(hasExtension(binaries, 'citus')) * 100 + Number(binaries.split('/')[4])
  return found.toSorted((a, b) => rank(b) - rank(a))[0]
}
