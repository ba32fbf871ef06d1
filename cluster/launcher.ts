// Owns bringing the cluster up on this machine, and down again. Nothing of it lives in this process: whoever
// starts it may go, and another finds it again by its folder.

import { chownSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { databaseUrl, type UrlRole } from './connection.ts'
import { type Credentials, openCredentials, renderPassfile } from './credentials.ts'
import { findDaemon, findPostmaster, sessionOf, signal, startDaemon, stopDaemon } from './daemon.ts'
import { etcdArguments } from './etcd.ts'
import { renderHaproxy } from './haproxy.ts'
import { renderPatroni } from './patroni.ts'
import { askMember } from './patroni-api.ts'
import {
  ClusterError,
  dataFolderOf,
  makeFolder,
  makePlace,
  type Place,
  type Programs,
  writeOwned,
} from './place.ts'
import { prepareDatabase } from './schema.ts'
import type { Member } from './topology.ts'

export type Report = (line: string) => void

/** Patroni lets PostgreSQL end what it does. */
const MEMBER_STOP_MS = 30_000
const STOP_MS = 10_000
/** By when all members must have come up. */
const UP_TIMEOUT_MS = 180_000

const credentialsFolder = ({ folder }: Place) => join(folder, 'credentials')
const passfileOf = (place: Place) => join(credentialsFolder(place), 'pgpass')

export async function openSecrets(place: Place): Promise<Credentials> {
  const credentials = await openCredentials(makeFolder(place, 'credentials'), place.topology.address)
  for (const file of [credentials.authorityFile, credentials.certificateFile, credentials.keyFile])
    if (place.account) chownSync(file, place.account.uid, place.account.gid)
  return credentials
}

/** Starts whatever does not run, and waits until all of it serves. */
export async function up(place: Place, programs: Programs, report: Report): Promise<void> {
  const { topology, account, runFolder } = place
  makePlace(place)
  const credentials = await openSecrets(place)
  writeOwned(place, passfileOf(place), renderPassfile(credentials))
  const start = performance.now()
  const seconds = () => `${((performance.now() - start) / 1000).toFixed(1)} s`

  for (const member of topology.store) {
    const args = etcdArguments(topology, member, makeFolder(place, 'etcd', member.name))
    startDaemon({ name: member.name, command: programs.etcd, args, account, runFolder })
  }
  for (const proxy of topology.proxies) {
    const file = join(runFolder, `${proxy.name}.cfg`)
    writeOwned(place, file, renderHaproxy(topology, proxy, runFolder))
    startDaemon({
      name: proxy.name,
      command: programs.haproxy,
      args: ['-db', '-f', file],
      account,
      runFolder,
    })
  }
  await untilStoreAnswers(place)
  report(`etcd and HAProxy run (${seconds()})`)

  for (const member of topology.members) startMember(place, programs, credentials, member)
  await untilMembersRun(place, report, seconds)
  await prepareDatabase(topology, credentials, report)
  report(`the database is prepared (${seconds()})`)
}

function startMember(place: Place, programs: Programs, credentials: Credentials, member: Member) {
  const { topology, account, runFolder } = place
  const folder = makeFolder(place, 'members', member.name)
  const file = join(folder, 'patroni.json')
  const text = renderPatroni(topology, member, credentials, {
    folder,
    postgresBinaries: programs.postgresBinaries,
  })
  writeOwned(place, file, text)
  startDaemon({
    name: member.name,
    command: programs.patroni,
    args: [file],
    // libpq within Citus finds the passwords of all roles here, and needs no table with them.
    environment: { PGPASSFILE: passfileOf(place), HOME: folder },
    account,
    runFolder,
  })
}

async function untilStoreAnswers({ topology }: Place) {
  const deadline = performance.now() + 20_000
  const { address, store } = topology
  for (;;) {
    const answers = await Promise.all(
      store.map(({ clientPort }) =>
        fetch(`http://${address}:${clientPort}/health`).then(
          (response) => response.ok,
          () => false,
        ),
      ),
    )
    if (answers.every(Boolean)) return
    if (performance.now() > deadline) throw new ClusterError('etcd does not answer; see its logs.')
    await sleep(100)
  }
}

/** Every group with one primary, and all others streaming from it. */
async function untilMembersRun(place: Place, report: Report, seconds: () => string) {
  const { topology } = place
  const deadline = performance.now() + UP_TIMEOUT_MS
  const told = new Map<string, string>()
  for (;;) {
    const states = await Promise.all(
      topology.members.map(async (member) => ({ member, state: await askMember(topology.address, member) })),
    )
    for (const { member, state } of states) {
      const text = state && `${state.role} ${state.isStreaming ? 'streaming' : state.state}`
      if (text && told.get(member.name) !== text) report(`${member.name}: ${text} (${seconds()})`)
      if (text) told.set(member.name, text)
    }
    const isReady = topology.groups.every(({ number, members }) => {
      const group = states.filter(({ member }) => member.group === number)
      const primaries = group.filter(({ state }) => state?.role === 'primary' && state.state === 'running')
      const secondaries = group.filter(({ state }) => state?.role === 'replica' && state.isStreaming)
      return primaries.length === 1 && secondaries.length === members.length - 1
    })
    if (isReady) return
    for (const { name } of topology.members) {
      if (findDaemon(place.runFolder, name) === undefined)
        throw new ClusterError(`${name} has ended; see npm run cluster -- logs ${name}.`)
    }
    if (performance.now() > deadline)
      throw new ClusterError('Not all members came up; see status and their logs.')
    await sleep(200)
  }
}

const URL_ROLES: readonly UrlRole[] = ['tessera_read', 'tessera_write', 'tessera_owner']

/** Gateways over the proxies' ports, their addresses in files that nobody else reads. */
export async function startGateways(place: Place, args: readonly string[] = []) {
  const { topology, runFolder } = place
  const credentials = await openSecrets(place)
  const environment: Record<string, string> = {}
  for (const role of URL_ROLES) {
    const file = join(credentialsFolder(place), `${role}.url`)
    writeOwned(place, file, databaseUrl(topology, credentials, role))
    environment[`TESSERA_${role.slice('tessera_'.length).toUpperCase()}_URL_FILE`] = file
  }
  for (const { name, port } of topology.gateways) {
    startDaemon({
      name,
      command: process.execPath,
      args: [join(import.meta.dirname, '../gateway/main.ts'), 'serve', '--port', String(port), ...args],
      environment,
      // It reads the checkout, which the account of PostgreSQL may not.
      account: undefined,
      runFolder,
    })
  }
}

/** Stops everything, what a lost launcher or a killed Patroni left behind as well. */
export async function down(place: Place, report: Report): Promise<void> {
  const { topology, runFolder } = place
  const stopAll = (names: readonly { readonly name: string }[], timeoutMs: number) =>
    Promise.all(names.map(({ name }) => stopDaemon(runFolder, name, timeoutMs)))
  await stopAll(topology.gateways, MEMBER_STOP_MS)
  // Secondaries first: none of them is then promoted while its primary ends.
  const states = await Promise.all(topology.members.map((member) => askMember(topology.address, member)))
  const isPrimary = (_: Member, index: number) => states[index]?.role === 'primary'
  await stopAll(
    topology.members.filter((member, index) => !isPrimary(member, index)),
    MEMBER_STOP_MS,
  )
  await stopAll(topology.members.filter(isPrimary), MEMBER_STOP_MS)
  for (const member of topology.members) await stopPostgres(dataFolderOf(place, member.name))
  await Promise.all([stopAll(topology.proxies, STOP_MS), stopAll(topology.store, STOP_MS)])
  report('nothing runs any more')
}

/** One whose Patroni was killed goes on by itself. */
async function stopPostgres(dataFolder: string) {
  const pid = findPostmaster(dataFolder)
  if (pid === undefined) return
  signal(pid, 'SIGINT')
  const deadline = performance.now() + STOP_MS
  while (findPostmaster(dataFolder) === pid && performance.now() < deadline) await sleep(50)
  if (findPostmaster(dataFolder) === pid) for (const member of sessionOf(pid)) signal(member, 'SIGKILL')
}

/** @returns once neither a process nor a file is left */
export async function destroy(place: Place, report: Report): Promise<void> {
  await down(place, () => {})
  rmSync(place.folder, { recursive: true, force: true })
  report(`${place.folder} is gone`)
}
