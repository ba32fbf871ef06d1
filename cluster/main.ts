#!/usr/bin/env node
// Owns `npm run cluster -- …`: the launcher's command line. No other file of the launcher ends the process.

import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { backUp, mark, renderInventory, startArchiving, takeInventory } from './backup/backup.ts'
import { claimRepository, defaultKeyFile, needPgBackRest } from './backup/repository.ts'
import { restore } from './backup/restore.ts'
import { restoreCollection } from './backup/restore-collection.ts'
import { type FaultName, faults } from './fault.ts'
import {
  destroy,
  down,
  findPrimary,
  type Report,
  restart,
  startGateways,
  switchOver,
  untilGatewaysServe,
  up,
} from './launcher.ts'
import { type Cluster, openSecrets, partsOf } from './parts.ts'
import { ClusterError, findPlace, findPrograms, folderOf, isMade, type Place } from './place.ts'
import { promote } from './promote.ts'
import { addWorker } from './scale.ts'
import { setUp } from './setup.ts'
import { readStatus, renderStatus } from './status.ts'
import { MAX_WORKERS, type Size, urlOf } from './topology.ts'

const USAGE = `npm run cluster -- COMMAND [--data FOLDER]

  setup                              install what can be installed, and report what is missing
  up [--workers 3] [--members 2]     create and start a cluster; start what does not run
     [--gateways 1] [--base-port N]
     [--plain]                       one pair without Citus
     [--no-gateway]                  only the databases
     [--no-demo]                     without the demo data
     [--disk MIB]                    each member on a small file system in memory, for trials (root)
     [--backup-to FOLDER]            archive the log there, for backups
     [--backup-key FILE]             with the key in this file, which is created if it is missing
     [--backups-kept 2]              and keep this number of full backups
  status [--json] [--watch]          members, lag, what HAProxy and Citus take them for, rows of each worker, backups
  switchover GROUP                   let primary and secondary of c, w1, w2, … change places
  promote NAME                       report the cost of giving up the members that NAME's group waits for
     [--accept-loss]                 and do it: NAME becomes primary with what it has
  restart NAME                       restart a member, proxy, etcd, fencer or gateway
  add-worker                         add one more pair, and move its share of the shards to it
  backup [--full]                    copy what has changed in all groups, or everything; see up --backup-to
  backups [--verify] [--json]        backups and restore points, and whether each file of them is as it was written
  mark NAME                          create a restore point of all groups, and archive everything up to it
  restore --from FOLDER              create a new cluster in --data FOLDER from backups, as of the last restore point,
     [--to TIME|NAME]                or of the last one before a time, or of one with a name
     [--backup-key FILE]
  restore --collection ID --as NAME  copy one collection out of a backup of the running cluster, next to what there is
     [--to TIME|NAME]
     [--from FOLDER]
     [--backup-key FILE]
  fault KIND NAME [--seconds 15]     inject a fault and undo it after that time; a group's name means its primary
${Object.entries(faults)
  .map(([name, { does }]) => `     ${name.padEnd(32)}${does}`)
  .join('\n')}
  logs NAME                          show the last 200 lines of a part's log
  down                               stop everything; the data stays
  destroy                            stop everything and remove the data
`

const OPTIONS = {
  data: { type: 'string' },
  workers: { type: 'string' },
  members: { type: 'string' },
  gateways: { type: 'string' },
  'base-port': { type: 'string' },
  disk: { type: 'string' },
  'backup-to': { type: 'string' },
  'backup-key': { type: 'string' },
  'backups-kept': { type: 'string' },
  full: { type: 'boolean' },
  verify: { type: 'boolean' },
  from: { type: 'string' },
  to: { type: 'string' },
  collection: { type: 'string' },
  as: { type: 'string' },
  seconds: { type: 'string' },
  'accept-loss': { type: 'boolean' },
  plain: { type: 'boolean' },
  gateway: { type: 'boolean', default: true },
  demo: { type: 'boolean' },
  json: { type: 'boolean' },
  watch: { type: 'boolean' },
} as const

const say: Report = (line) => process.stdout.write(`${line}\n`)
const WATCH_INTERVAL_MS = 1_000
const DEFAULT_FAULT_SECONDS = 15
/** Exit code of a command that a signal has ended. */
const INTERRUPTED = 130

type Values = ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>['values']

function integerOf(name: string, text: string, least: number, most: number): number {
  const value = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN
  if (value >= least && value <= most) return value
  throw new ClusterError(`--${name}=${text}: must be an integer from ${least} to ${most}.`)
}

function sizeOf(values: Values): Partial<Size> {
  const given = (key: keyof Size, name: keyof Values, least: number, most: number) => {
    const text = values[name]
    return typeof text === 'string' ? { [key]: integerOf(name, text, least, most) } : {}
  }
  return {
    ...given('workers', 'workers', 1, MAX_WORKERS),
    ...given('members', 'members', 1, 4),
    ...given('gateways', 'gateways', 0, 16),
    ...given('basePort', 'base-port', 1_024, 64_000),
    ...given('disk', 'disk', 256, 65_535),
    ...given('backupsKept', 'backups-kept', 1, 365),
    ...backupsOf(values),
    ...(values.plain ? { workers: 0 } : {}),
    ...(values.demo === undefined ? {} : { demo: values.demo }),
  }
}

function backupsOf({ data, 'backup-to': folder, 'backup-key': key }: Values): Partial<Size> {
  if (!folder) return {}
  return { backups: resolve(folder), backupKey: key ? resolve(key) : defaultKeyFile(folderOf(data)) }
}

/** Opens an existing cluster. @throws ClusterError if there is none */
async function openCluster(place: Place): Promise<Cluster> {
  if (!isMade(place)) throw new ClusterError(`There is no cluster in ${place.folder}; up creates one.`)
  return { place, programs: findPrograms(place), credentials: await openSecrets(place) }
}

async function main() {
  const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true, allowNegative: true })
  const [command = '', ...words] = positionals
  const takes = (...names: string[]): string[] => {
    if (words.length === names.length) return words
    throw new ClusterError(`${command} takes ${names.join(' and ') || 'no more arguments'}.\n\n${USAGE}`)
  }
  const place = findPlace(values.data, sizeOf(values))
  const { topology } = place
  switch (command) {
    case 'setup':
      takes()
      return setUp(place, say)
    case 'up':
      takes()
      return bringUp(place, values.gateway)
    case 'status':
      takes()
      return showStatus(await openCluster(place), values)
    case 'switchover': {
      const [name] = takes('a GROUP')
      const group = topology.groups.find((group) => group.name === name)
      if (!group)
        throw new ClusterError(
          `There is no group ${name}; there are ${topology.groups.map(({ name }) => name).join(', ')}.`,
        )
      const primary = await switchOver(await openCluster(place), group)
      return say(`${primary.name} is primary now`)
    }
    case 'promote': {
      const [name] = takes('a NAME') as [string]
      const { credentials } = await openCluster(place)
      return promote(name, {
        topology,
        credentials,
        isLossAccepted: values['accept-loss'] === true,
        report: say,
      })
    }
    case 'restart': {
      const [name] = takes('a NAME') as [string]
      await restart(await openCluster(place), name)
      return say(`${name} is started again`)
    }
    case 'add-worker':
      takes()
      await addWorker(await openCluster(place), say)
      return
    case 'backup': {
      takes()
      const run = await backUp(await openCluster(place), values.full === true, say)
      return say(`${run} can be restored`)
    }
    case 'backups': {
      takes()
      const inventory = await takeInventory(await openCluster(place), values.verify === true)
      say(values.json ? JSON.stringify(inventory) : renderInventory(inventory))
      process.exitCode = inventory.faults.length > 0 ? 1 : 0
      return
    }
    case 'mark': {
      const [name] = takes('a NAME') as [string]
      const { at } = await mark(await openCluster(place), name)
      return say(`everything up to ${name} (${at}) is archived`)
    }
    case 'restore':
      takes()
      return values.collection === undefined && values.as === undefined
        ? bringBack(values)
        : bringBackCollection(await openCluster(place), values)
    case 'fault': {
      const [kind, name] = takes('a KIND', 'a NAME') as [string, string]
      const seconds = values.seconds ? integerOf('seconds', values.seconds, 1, 3_600) : DEFAULT_FAULT_SECONDS
      return injectFault(await openCluster(place), kind, name, seconds)
    }
    case 'logs': {
      const [name] = takes('a NAME') as [string]
      const file = join(place.runFolder, `${name}.log`)
      if (!partsOf(topology).includes(name) || !existsSync(file))
        throw new ClusterError(`There is no log of ${name}; the parts are ${partsOf(topology).join(', ')}.`)
      execFileSync('tail', ['-n', '200', file], { stdio: 'inherit' })
      return
    }
    case 'down':
      takes()
      return down(place, say)
    case 'destroy':
      takes()
      return destroy(place, say)
    default:
      throw new ClusterError(USAGE)
  }
}

async function bringUp(place: Place, withGateways: boolean) {
  const programs = findPrograms(place)
  const { topology } = place
  if (topology.isCitus && !programs.hasCitus)
    throw new ClusterError('Citus is not installed: up --plain runs one pair without it.')
  if (place.size.backups) needPgBackRest(programs)
  claimRepository(place)
  const cluster = { place, programs, credentials: await openSecrets(place) }
  await up(cluster, say)
  await serve(cluster, withGateways)
}

async function bringBack(values: Values) {
  const { from, to, data } = values
  if (!from) throw new ClusterError('restore needs the folder of the backups: --from FOLDER.')
  const cluster = await restore({
    folder: data,
    programs: findPrograms(findPlace(data, {})),
    from: resolve(from),
    keyFile: values['backup-key'] ? resolve(values['backup-key']) : defaultKeyFile(folderOf(data)),
    target: to,
    size: sizeOf(values),
    report: say,
  })
  await serve(cluster, values.gateway)
}

async function bringBackCollection(cluster: Cluster, values: Values) {
  const { collection, as, from, to } = values
  const { folder, size } = cluster.place
  if (!collection || !as)
    throw new ClusterError('restore takes both --collection ID and --as NAME, or none of them.')
  if (!from && !size.backups)
    throw new ClusterError('This cluster has no backups; name the folder of others with --from.')
  const ownKey = from ? defaultKeyFile(folder) : size.backupKey
  const features = await restoreCollection({
    cluster,
    collection,
    as,
    from: from ? resolve(from) : size.backups,
    keyFile: values['backup-key'] ? resolve(values['backup-key']) : ownKey,
    target: to,
    report: say,
    onBegin(remove) {
      const interrupt = () => remove().finally(() => process.exit(INTERRUPTED))
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, interrupt)
    },
  })
  say(`${as} has the ${features.toLocaleString('en')} features of ${collection}`)
}

/** Starts what needs a database: the archive and the gateways. */
async function serve(cluster: Cluster, withGateways: boolean) {
  const { place } = cluster
  const { topology } = place
  await startArchiving(cluster, say)
  const { host, httpPort, statisticsPort } = topology.proxies[0]!
  if (withGateways) {
    say(`starting gateways${place.size.demo ? ', which import the demo data if it is missing' : ''} …`)
    await startGateways(cluster)
    await untilGatewaysServe(cluster)
    say(`serving at ${urlOf(host, httpPort)}`)
  }
  say(`statistics of HAProxy: ${urlOf(host, statisticsPort)}`)
}

async function showStatus({ place, credentials }: Cluster, { json, watch }: Values) {
  for (;;) {
    const status = await readStatus(place.topology, credentials)
    if (json) say(JSON.stringify(status))
    else say((watch ? '\x1b[2J\x1b[H' : '') + renderStatus(status))
    if (!watch) {
      process.exitCode = status.faults.length > 0 ? 1 : 0
      return
    }
    await sleep(WATCH_INTERVAL_MS)
  }
}

async function injectFault(cluster: Cluster, kind: string, name: string, seconds: number) {
  const fault = Object.hasOwn(faults, kind) ? faults[kind as FaultName] : undefined
  if (!fault)
    throw new ClusterError(`There is no fault ${kind}; there are ${Object.keys(faults).join(', ')}.`)
  const group = cluster.place.topology.groups.find((group) => group.name === name)
  const target = group ? (await findPrimary(group)).name : name
  const interrupted = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => interrupted.abort())
  const undo = await fault.inject(cluster, target)
  say(`${kind} ${target}: ${fault.does}; it is undone in ${seconds} s, or on Ctrl-C`)
  await sleep(seconds * 1000, undefined, { signal: interrupted.signal }).catch(() => {})
  await undo()
  say(`${kind} ${target}: undone`)
}

try {
  await main()
} catch (error) {
  const { code, message, stack } = error as Error & { code?: string }
  const isUsage = code?.startsWith('ERR_PARSE_ARGS')
  process.stderr.write(
    isUsage ? `${message}\n\n${USAGE}` : `${error instanceof ClusterError ? message : stack}\n`,
  )
  process.exit(1)
}
process.exit()
