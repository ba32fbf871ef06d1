// Owns how each process of the cluster starts on this machine: its options, and its configuration, written each time.

import { execFile } from 'node:child_process'
import { chownSync, existsSync, readFileSync, rmSync, statSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { Repository } from './backup/pgbackrest-config.ts'
import { needPgBackRest, repositoryOf } from './backup/repository.ts'
import { type Credentials, openCredentials, renderPassfile } from './credentials.ts'
import {
  type DaemonOptions,
  findDaemon,
  findPostmaster,
  killSessions,
  sessionsOf,
  startDaemon,
} from './daemon.ts'
import {
  GATEWAY_URLS,
  type GatewayUrl,
  gatewayUrl,
  OWNER_URL,
  urlFileOf,
  urlVariableOf,
} from './database-urls.ts'
import { etcdArguments, renderFencer } from './etcd-config.ts'
import { DRAIN_DELAY_MS, renderBalancer } from './haproxy-config.ts'
import {
  configurationOf,
  filesOf,
  GUARDED_PATRONI,
  type MemberPlace,
  RECOVERY_FILES,
  type Recovery,
} from './patroni-config.ts'
import {
  ClusterError,
  dataFolderOf,
  makeFolder,
  makeMemberFolder,
  memberFolderOf,
  type Place,
  type Programs,
  writeOwned,
} from './place.ts'
import { LOOPBACK, type Member, type Topology } from './topology.ts'

/** A cluster that can be started: its place, its programs and its secrets. */
export type Cluster = {
  readonly place: Place
  readonly programs: Programs
  readonly credentials: Credentials
}

type Part = Omit<DaemonOptions, 'name' | 'runFolder'>

const credentialsFolder = ({ folder }: Place) => join(folder, 'credentials')

export async function openSecrets(place: Place): Promise<Credentials> {
  const credentials = await openCredentials(makeFolder(place, 'credentials'), [LOOPBACK, 'localhost'])
  for (const file of [credentials.authorityFile, credentials.certificateFile, credentials.keyFile])
    if (place.account) chownSync(file, place.account.uid, place.account.gid)
  writeOwned(place, passfileOf(place), renderPassfile(credentials))
  return credentials
}

/** Returns the file that has the password of each role. */
export const passfileOf = (place: Place) => join(credentialsFolder(place), 'pgpass')

/** Returns the names of all parts, in the order in which they start. */
export const partsOf = ({ store, proxies, fencers, members, recorders, gateways }: Topology) =>
  [...store, ...proxies, ...members, ...fencers, ...recorders, ...gateways].map(({ name }) => name)

/** Returns all processes of one part; for a member, PostgreSQL is included even if its Patroni is gone. */
export const processesOf = (place: Place, name: string): number[] => sessionsOf(rootsOf(place, name))

/** Kills all processes of parts, and returns when none is left. */
export const killParts = (place: Place, names: readonly string[]): Promise<void> =>
  killSessions(names.flatMap((name) => rootsOf(place, name)))

const rootsOf = (place: Place, name: string) =>
  [findDaemon(place.runFolder, name), findPostmaster(dataFolderOf(place, name))].filter(
    (pid) => pid !== undefined,
  )

/** Starts one part by its name, unless it runs. @throws ClusterError if the cluster has no part of this name */
export function startPart(cluster: Cluster, name: string): void {
  const { topology, runFolder } = cluster.place
  const find = <T extends { readonly name: string }>(parts: readonly T[]) =>
    parts.find((part) => part.name === name)
  const member = find(topology.members)
  const proxy = find(topology.proxies)
  const store = find(topology.store)
  const fencer = find(topology.fencers)
  const recorder = find(topology.recorders)
  const gateway = find(topology.gateways)
  const part: Part | undefined =
    (member && memberPart(cluster, member)) ??
    (proxy && proxyPart(cluster, proxy.name)) ??
    (store && storePart(cluster, store)) ??
    (fencer && fencerPart(cluster, fencer.name)) ??
    (recorder && recorderPart(cluster)) ??
    (gateway && gatewayPart(cluster, gateway.port))
  if (!part) throw new ClusterError(`There is no ${name}; there are ${partsOf(topology).join(', ')}.`)
  startDaemon({ name, runFolder, ...part })
}

function memberPart({ place, programs, credentials }: Cluster, member: Member): Part {
  const folder = makeMemberFolder(place, member.name)
  // All files are copied, because the account of PostgreSQL may be unable to read the checkout.
  const files = filesOf(place.topology, member, credentials, {
    ...programs,
    folder,
    configFolder: folder,
    ...backupsOf(place, programs),
  })
  for (const [name, text] of files) writeOwned(place, join(folder, name), text)
  return {
    // tini reaps PostgreSQL's process as soon as it has ended. Patroni keeps the group's leader key until then, and the
    // other members would wait if the machine's init process reaped it late, or never.
    command: programs.tini,
    args: [
      '-s',
      '--',
      programs.python,
      join(folder, GUARDED_PATRONI),
      join(folder, configurationOf(member.name)),
    ],
    // libpq within Citus reads the passwords of all roles from this file, so no table has to contain them.
    environment: { PGPASSFILE: passfileOf(place), HOME: folder },
    account: place.account && { ...place.account, gid: networkGroupOf(member) },
  }
}

/** Returns what a member archives its log with, and what it is restored from, if that is the case. */
function backupsOf(place: Place, programs: Programs): Pick<MemberPlace, 'archive' | 'recovery'> {
  const repository = repositoryOf(place)
  const recovery = readRecovery(place)
  const program = repository || recovery ? needPgBackRest(programs) : ''
  return {
    archive: repository && { program, repository },
    recovery: recovery && { program, ...recovery },
  }
}

/** File that a cluster has while it is restored. */
const recoveryFileOf = ({ folder }: Place) => join(folder, 'recovery.json')

type RecordedRecovery = Omit<Recovery, 'program'>

const readRecovery = (place: Place): RecordedRecovery | undefined =>
  existsSync(recoveryFileOf(place)) ? JSON.parse(readFileSync(recoveryFileOf(place), 'utf8')) : undefined

/** Lets members without data begin with a backup. */
export const beginRecovery = (place: Place, recovery: RecordedRecovery) =>
  writeOwned(place, recoveryFileOf(place), JSON.stringify(recovery))

/** Removes what only a recovery needs, such as the key of the backups that it reads. */
export function endRecovery(place: Place) {
  rmSync(recoveryFileOf(place), { force: true })
  for (const { name } of place.topology.members)
    for (const file of RECOVERY_FILES) rmSync(join(memberFolderOf(place, name), file), { force: true })
}

/** Returns a group id of the member's own, by which the packet filter recognizes its packets; see fault.ts. */
export const networkGroupOf = ({ postgresPort }: Member) => 100_000 + postgresPort

export const proxyFileOf = ({ runFolder }: Place, name: string) => join(runFolder, `${name}.cfg`)

export function writeProxyFile(place: Place, name: string) {
  const proxy = place.topology.proxies.find((proxy) => proxy.name === name)!
  writeOwned(place, proxyFileOf(place, name), renderBalancer(place.topology, proxy, place.runFolder))
}

function proxyPart({ place, programs }: Cluster, name: string): Part {
  writeProxyFile(place, name)
  // The master process (-W) reloads the configuration on SIGUSR2, without closing connections at once.
  return {
    command: programs.haproxy,
    args: ['-W', '-db', '-f', proxyFileOf(place, name)],
    account: place.account,
  }
}

const storePart = ({ place, programs, credentials }: Cluster, member: Topology['store'][number]): Part => ({
  command: programs.etcd,
  args: etcdArguments(place.topology, member, makeFolder(place, 'etcd', member.name), credentials),
  account: place.account,
})

function fencerPart({ place, credentials }: Cluster, name: string): Part {
  const file = join(place.runFolder, `${name}.json`)
  writeOwned(place, file, renderFencer(place.topology, name, credentials))
  return { ...ourProgram(place), args: [join(import.meta.dirname, 'fencer.ts'), file] }
}

/** What the recorder needs besides the place of the cluster; its account may be unable to read the file of the key. */
export type RecorderSettings = {
  readonly credentials: Credentials
  readonly repository: Repository
  /** pgBackRest. */
  readonly program: string
}

function recorderPart({ place, programs, credentials }: Cluster): Part {
  const file = join(place.runFolder, 'recorder.json')
  const settings: RecorderSettings = {
    credentials,
    repository: repositoryOf(place)!,
    program: needPgBackRest(programs),
  }
  writeOwned(place, file, JSON.stringify(settings))
  return { ...ourProgram(place), args: [join(import.meta.dirname, 'backup/recorder.ts'), place.folder, file] }
}

const gatewayProgram = resolve(import.meta.dirname, '../gateway/main.ts')

/** Returns how a program of this repository runs: as the account of the cluster, unless it cannot read the checkout. */
function ourProgram({ account }: Place): Pick<Part, 'command' | 'account'> {
  const isOpen = [process.execPath, gatewayProgram].every(isReadableByAll)
  return { command: process.execPath, account: isOpen ? account : undefined }
}

function isReadableByAll(file: string): boolean {
  const OTHERS_READ = 0o004
  const OTHERS_ENTER = 0o001
  if ((statSync(file).mode & OTHERS_READ) === 0) return false
  for (let folder = dirname(file); ; folder = dirname(folder)) {
    if ((statSync(folder).mode & OTHERS_ENTER) === 0) return false
    if (folder === dirname(folder)) return true
  }
}

function gatewayPart(cluster: Cluster, port: number): Part {
  const { place } = cluster
  const { gateways } = place.size
  // All gateways together run as many processes as there are cores.
  const processes = Math.max(1, Math.floor(availableParallelism() / gateways))
  return {
    ...ourProgram(place),
    args: [gatewayProgram, 'serve', '--no-demo'],
    environment: {
      ...environmentWith(cluster, GATEWAY_URLS),
      TESSERA_PORT: String(port),
      TESSERA_PROCESSES: String(processes),
    },
  }
}

/** Creates Tessera's own tables, and imports the demo data if the cluster has it. */
export async function migrate(cluster: Cluster): Promise<void> {
  const { command, account } = ourProgram(cluster.place)
  const { demo } = cluster.place.size
  await promisify(execFile)(command, [gatewayProgram, 'migrate', demo ? '--demo' : '--no-demo'], {
    env: environmentWith(cluster, [OWNER_URL]),
    cwd: cluster.place.runFolder,
    ...account,
  })
}

/** Returns the environment of a gateway. URLs of the proxies' ports are in files that other accounts cannot read. */
function environmentWith(
  { place, credentials }: Cluster,
  urls: readonly GatewayUrl[],
): Record<string, string> {
  const environment: Record<string, string> = {
    TESSERA_DRAIN_DELAY_MS: String(DRAIN_DELAY_MS),
    TESSERA_LOG_LEVEL: process.env.TESSERA_LOG_LEVEL ?? 'info',
  }
  for (const name of urls) {
    const file = join(credentialsFolder(place), urlFileOf(name))
    writeOwned(place, file, gatewayUrl(place.topology, credentials, name))
    environment[urlVariableOf(name)] = file
  }
  return environment
}
