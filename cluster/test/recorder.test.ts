// Tests what the recorder, the status and the doctor see of an archive that fails and works again. The recorder,
// PostgreSQL and pgBackRest are real; the way through HAProxy, and the answer of Patroni, are the test's own, so that no
// cluster is needed.

import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { renameSync, rmSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { backUp, startArchiving } from '../backup/backup.ts'
import { judgeProtection, type Protection } from '../backup/protection.ts'
import { claimRepository, repositoryOf } from '../backup/repository.ts'
import { stopDaemon } from '../daemon.ts'
import { databaseUrls, withSuperuser } from '../database-urls.ts'
import { type Cluster, openSecrets } from '../parts.ts'
import { DATABASE, filesOf } from '../patroni-config.ts'
import { dataFolderOf, findPlace, findPrograms, makeMemberFolder, makePlace, writeOwned } from '../place.ts'
import { oncePossible, prepareDatabase } from '../prepare.ts'
import { makeScratch } from '../scenarios/stage.ts'
import { readStatus } from '../status.ts'
import { LOOPBACK, urlOf } from '../topology.ts'
import { whyNotBackups } from './requirements.ts'

const BASE_PORT = 34_000
const TIMEOUT_MS = 90_000
const LOOK_MS = 500
/** After this, what is wrong is a fault. */
const PATIENCE_MS = 61_000

test('an archive that fails is seen, and so is its end', {
  skip: whyNotBackups(false),
  timeout: 600_000,
}, async (t) => {
  const scratch = makeScratch('recorder')
  /** What must be undone at the end, the last first. */
  const undos: (() => unknown)[] = [() => rmSync(scratch, { recursive: true, force: true })]
  t.after(async () => {
    for (const undo of undos.toReversed()) await undo()
  })
  const backups = join(scratch, 'backups')
  const place = findPlace(join(scratch, 'cluster'), {
    workers: 0,
    members: 1,
    proxies: 1,
    store: 1,
    gateways: 0,
    demo: false,
    basePort: BASE_PORT,
    backups,
    backupKey: join(scratch, 'backup.key'),
  })
  const { topology } = place
  claimRepository(place)
  makePlace(place)
  const cluster: Cluster = {
    place,
    programs: findPrograms(findPlace(undefined, {})),
    credentials: await openSecrets(place),
  }
  await startPrimary(cluster, undos)

  const look = () => readStatus(topology, cluster.credentials)
  /** Returns what is wrong with the backups once the patience with it is over. */
  const judge = (report: Protection | undefined) => judgeProtection(report!, Date.now() + PATIENCE_MS)
  const until = async (what: string, isSo: (report: Protection) => boolean) => {
    for (const deadline = performance.now() + TIMEOUT_MS; ; await sleep(LOOK_MS)) {
      const { backups: report } = await look()
      if (report && isSo(report)) return report
      assert.ok(performance.now() < deadline, `not ${what}: ${JSON.stringify(report)}`)
    }
  }
  const { host, port } = topology.recorders[0]!
  const scrape = async () => (await fetch(`${urlOf(host, port)}/metrics`)).text()
  const ageOf = ({ restorableUntil }: Protection) => Date.now() - Date.parse(restorableUntil ?? '1970')
  const isRecent = (report: Protection) => ageOf(report) < 10_000

  const told: string[] = []
  await startArchiving(cluster, (line) => told.push(line))
  undos.push(() => stopDaemon(place.runFolder, 'recorder', TIMEOUT_MS))
  assert.deepEqual(told, ['there is no backup of c yet: run npm run cluster -- backup'])
  const first = await until('started', ({ groups }) => groups[0]!.archive !== null)
  assert.match(judge(first).join(), /^there is no backup of group c/)

  await backUp(cluster, true, () => {})
  const copied = await until('backed up', (report) => report.groups[0]!.backupAt !== null && isRecent(report))
  assert.deepEqual(judgeProtection(copied, Date.now()), [])
  // If nothing changes, everything until now can be restored.
  await sleep(15_000)
  await until('up to now', isRecent)
  assert.deepEqual(await askDoctor(cluster), [])

  renameSync(join(backups, 'archive'), join(backups, 'gone'))
  await oncePossible(() =>
    withSuperuser(topology, cluster.credentials, (client) =>
      client.query('create table if not exists noted (id int)'),
    ),
  )
  const broken = await until('seen', ({ groups }) => groups[0]!.archive!.failsSince !== null)
  assert.match(
    judge(broken).join('\n'),
    /^group c has archived nothing for 1 min[^:]*, \d+ files?: .*\nchanges of the last 1 min.* could not be restored$/,
  )
  assert.match(await scrape(), /^tessera_archive_failing\{group="c"\} 1$/m)
  const [finding, ...others] = await askDoctor(cluster)
  assert.match(finding!, /^It has archived none of its write-ahead log since 20/)
  assert.deepEqual(others, [])
  await until('growing', (report) => ageOf(report) > 12_000)

  rmSync(join(backups, 'archive'), { recursive: true, force: true })
  renameSync(join(backups, 'gone'), join(backups, 'archive'))
  await until('over', (report) => isRecent(report) && report.groups[0]!.archive!.failsSince === null)
  const metrics = await scrape()
  assert.match(metrics, /^tessera_archive_failing\{group="c"\} 0$/m)
  const [, timestamp] = /^tessera_restorable_timestamp_seconds (\S+)$/m.exec(metrics)!
  assert.ok(Date.now() / 1_000 - Number(timestamp) < 10)

  await stopDaemon(place.runFolder, 'recorder', TIMEOUT_MS)
  const { faults, backups: unknown } = await look()
  assert.ok(faults.some((fault) => fault.startsWith('recorder does not answer, so that there are no new')))
  assert.equal(unknown, undefined)
})

/** Starts PostgreSQL as the only member of a plain cluster would, and what leads to it. */
async function startPrimary(cluster: Cluster, undos: (() => unknown)[]) {
  const { place, programs, credentials } = cluster
  const { topology } = place
  const [member] = topology.members as [(typeof topology.members)[number]]
  const folder = makeMemberFolder(place, member.name)
  const archive = { program: programs.pgbackrest!, repository: repositoryOf(place)! }
  const files = filesOf(topology, member, credentials, {
    ...programs,
    folder,
    configFolder: folder,
    archive,
  })
  for (const [name, text] of files) writeOwned(place, join(folder, name), text)
  const { parameters } = JSON.parse(files.get(`${member.name}.json`)!).postgresql
  const data = dataFolderOf(place, member.name)
  const passwordFile = join(folder, 'password')
  writeOwned(place, passwordFile, credentials.passwords.postgres)
  const run = (program: string, ...args: string[]) =>
    execFileSync(join(programs.postgresBinaries, program), ['-D', data, ...args], {
      cwd: folder,
      env: { PATH: process.env.PATH, HOME: folder },
      stdio: 'pipe',
      ...place.account,
    })
  run('initdb', '-U', 'postgres', '-A', 'scram-sha-256', '--pwfile', passwordFile, '--no-sync')
  const settings = { ...parameters, port: member.postgresPort, listen_addresses: LOOPBACK, fsync: 'off' }
  const words = Object.entries(settings).map(
    ([name, value]) => `${name} = '${String(value).replaceAll("'", "''")}'\n`,
  )
  writeOwned(place, join(data, 'postgresql.auto.conf'), words.join(''))
  run('pg_ctl', '-w', '-t', '120', '-l', join(folder, 'server.log'), 'start')
  undos.push(() => run('pg_ctl', '-m', 'immediate', 'stop'))

  const proxy = createServer((incoming) => {
    const outgoing = connect(member.postgresPort, LOOPBACK)
    for (const socket of [incoming, outgoing]) socket.on('error', () => incoming.destroy())
    incoming.pipe(outgoing).pipe(incoming)
  }).listen(topology.proxies[0]!.writePort, LOOPBACK)
  const patroni = createHttpServer((_, response) => {
    response.end(JSON.stringify({ role: 'primary', state: 'running', timeline: 1 }))
  }).listen(member.patroniPort, LOOPBACK)
  undos.push(() => {
    proxy.close()
    patroni.close()
    patroni.closeAllConnections()
  })
  await prepareDatabase(topology, credentials, topology.members, () => {})
  assert.equal(await withSuperuser(topology, credentials, async ({ database }) => database), DATABASE)
}

/** Returns what `tessera doctor` finds about the archive, with the roles of a gateway. */
const askDoctor = ({ place, credentials }: Cluster) =>
  new Promise<string[]>((resolve, reject) => {
    const main = join(import.meta.dirname, '../../gateway/main.ts')
    const url = (role: 'tessera_write' | 'tessera_owner') => databaseUrls(place.topology, credentials, role)
    const env = {
      PATH: process.env.PATH,
      HOME: place.folder,
      TESSERA_WRITE_URL: url('tessera_write'),
      TESSERA_OWNER_URL: url('tessera_owner'),
    }
    execFile(process.execPath, [main, 'doctor', '--json'], { env }, (_, stdout, stderr) => {
      try {
        const { findings } = JSON.parse(stdout) as { findings: { check: string; finding: string }[] }
        resolve(findings.filter(({ check }) => check === 'archive-fails').map(({ finding }) => finding))
      } catch {
        reject(new Error(stderr))
      }
    })
  })
