// Owns backups of a cluster: copying each group, from a secondary if it has one, and what there is to restore.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { primaryPortOf, withSuperuser } from '../database-urls.ts'
import { isStartedIn, type Report, restart } from '../launcher.ts'
import { type Cluster, passfileOf } from '../parts.ts'
import { askMember } from '../patroni-client.ts'
import { ClusterError, dataFolderOf, memberFolderOf, type Place } from '../place.ts'
import type { Group } from '../topology.ts'
import type { Server } from './pgbackrest-config.ts'
import {
  closePrimaries,
  createPoint,
  isArchived,
  isNamed,
  keepPoint,
  openPrimaries,
  type Point,
  readPoints,
  removePointsBefore,
} from './points.ts'
import { openRunner, type Runner, runPgBackRest } from './repository.ts'

/** A backup of one group. */
export type Backup = {
  readonly group: string
  /** pgBackRest's name of it. */
  readonly label: string
  readonly type: string
  /** The run of `backup` that it was made in, with those of the other groups. */
  readonly run: string
  readonly startedAt: Date
  readonly endedAt: Date
  /** The last file of the log that it needs, which PostgreSQL finished when the backup ended. */
  readonly lastFile: string
  /** Bytes of the database, and what this backup added to the folder. */
  readonly databaseBytes: number
  readonly addedBytes: number
}

/** Milliseconds within which a point that an operator waits for must be archived. */
const ARCHIVE_TIMEOUT_MS = 60_000
const LOOK_MS = 50
/** Milliseconds that a member has to report its role: its response decides what is copied. */
const PATIENCE_MS = 5_000
/** Names of restore points: they are words of a command line, and PostgreSQL takes at most 63 bytes. */
const POINT_NAME = /^[A-Za-z][A-Za-z0-9._-]{0,62}$/

const openOwn = ({ place, programs }: Cluster): Runner => openRunner(place, programs, passfileOf(place))

const serverOf =
  (place: Place) =>
  ({ name, postgresPort }: Group['members'][number]): Server => ({
    dataFolder: dataFolderOf(place, name),
    socketFolder: memberFolderOf(place, name),
    port: postgresPort,
  })

/**
 * Prepares the folder of backups for each group, and starts the recorder. Harmless if that was done before.
 * @throws ClusterError if the folder has the backups of another database
 */
export async function startArchiving(cluster: Cluster, report: Report): Promise<void> {
  const { place, credentials } = cluster
  const { topology } = place
  if (topology.recorders.length === 0) return
  const runner = openOwn(cluster)
  const create = async (group: Group) => {
    if (!existsSync(join(runner.repository.folder, 'backup', group.name, 'backup.info')))
      await runPgBackRest(runner, group, group.members.map(serverOf(place)), ['stanza-create'])
    const mode = await withSuperuser(
      topology,
      credentials,
      async (client) => (await client.query('show archive_mode')).rows[0].archive_mode,
      primaryPortOf(group.number),
    )
    if (mode === 'off')
      report(
        `group ${group.name} does not archive yet: restart ${group.members.map(({ name }) => name).join(', ')}`,
      )
  }
  await Promise.all(topology.groups.map(create))
  for (const { name } of topology.recorders) await restart(cluster, name)
  const copied = new Set((await listBackups(runner, topology.groups)).map(({ group }) => group))
  const left = topology.groups.filter(({ name }) => !copied.has(name)).map(({ name }) => name)
  if (left.length > 0) report(`there is no backup of ${left.join(', ')} yet: run npm run cluster -- backup`)
}

/**
 * Backs up all groups, and creates a restore point that all these backups lead to.
 * @returns the run's name, which its restore point has, too
 */
export async function backUp(cluster: Cluster, isFull: boolean, report: Report): Promise<string> {
  const { place } = cluster
  const { topology } = place
  const runner = openOwn(cluster)
  const run = `backup-${new Date().toISOString().replaceAll(/[-:]|\.\d+/g, '')}`
  for (const group of topology.groups) {
    const states = await Promise.all(group.members.map((member) => askMember(member, PATIENCE_MS)))
    if (!states.some((state) => state?.role === 'primary'))
      throw new ClusterError(`Group ${group.name} has no primary now; see status.`)
    // A member that does not run cannot be copied, and pgBackRest needs the primary in any case.
    const running = group.members.filter(
      (_, index) => states[index]?.role === 'primary' || states[index]?.isStreaming,
    )
    const source = running.length > 1 ? 'secondary' : 'primary'
    const start = performance.now()
    await runPgBackRest(runner, group, running.map(serverOf(place)), [
      'backup',
      `--type=${isFull ? 'full' : 'incr'}`,
      `--annotation=run=${run}`,
      ...(source === 'secondary' ? ['--backup-standby'] : []),
    ])
    const made = (await listBackups(runner, [group])).at(-1)!
    report(
      `${group.name}: ${made.type} backup from the ${source} in ${seconds(performance.now() - start)}, ${megabytes(made.addedBytes)} of ${megabytes(made.databaseBytes)}`,
    )
  }
  await mark(cluster, run)
  const all = await listBackups(runner, topology.groups)
  const first = topology.groups.map(({ name }) => all.find(({ group }) => group === name)!.endedAt.getTime())
  removePointsBefore(runner.repository.folder, new Date(Math.max(...first)))
  return run
}

/** Creates a restore point with a name, and waits until all groups have archived it: it survives any loss from then on. */
export async function mark(cluster: Cluster, name: string): Promise<Point> {
  const { topology, account } = cluster.place
  const { folder } = openOwn(cluster).repository
  if (!POINT_NAME.test(name))
    throw new ClusterError(
      `${name} is no name for a restore point: it begins with a letter, and has letters, digits, dots, hyphens and underscores, at most 63.`,
    )
  if (readPoints(folder).some((point) => point.name === name))
    throw new ClusterError(`There is a restore point ${name} already; choose another name.`)
  const primaries = await openPrimaries(topology, cluster.credentials)
  const point = await createPoint(primaries, name).finally(() => closePrimaries(primaries))
  keepPoint(folder, point, account)
  const isMissing = ([group, file]: [string, string]) => !isArchived(folder, group, file)
  for (const deadline = performance.now() + ARCHIVE_TIMEOUT_MS; ; await sleep(LOOK_MS)) {
    const missing = Object.entries(point.files).find(isMissing)
    if (!missing) return point
    if (performance.now() > deadline)
      throw new ClusterError(
        `Group ${missing[0]} has not archived ${missing[1]}, so ${name} cannot be restored yet; see the logs of its members.`,
      )
  }
}

type Info = {
  readonly status: { readonly code: number; readonly message: string }
  readonly backup?: readonly {
    readonly label: string
    readonly type: string
    readonly annotation?: { readonly run?: string }
    readonly timestamp: { readonly start: number; readonly stop: number }
    readonly archive: { readonly stop: string }
    readonly info: { readonly size: number; readonly repository: { readonly delta: number } }
  }[]
}

/** pgBackRest's code for backups that it cannot read. */
const UNREADABLE = 99

/**
 * Returns the backups of some groups; those of a group are in the order of time.
 * @throws ClusterError if they cannot be read, for example with this key
 */
export async function listBackups(runner: Runner, groups: readonly Pick<Group, 'name'>[]): Promise<Backup[]> {
  const lists = await Promise.all(
    groups.map(async (group) => {
      const text = await runPgBackRest(runner, group, [], ['info', '--output=json'])
      // pgBackRest does not escape what is in a message, such as line breaks.
      const infos: Info[] = JSON.parse(text.replaceAll(/\p{Cc}+/gu, ' '))
      for (const { status } of infos)
        if (status.code === UNREADABLE)
          throw new ClusterError(
            `The backups of group ${group.name} cannot be read, perhaps with another key: ${status.message}`,
          )
      return infos.flatMap(({ backup = [] }) =>
        backup.map(
          ({ label, type, annotation, timestamp, archive, info }): Backup => ({
            group: group.name,
            label,
            type,
            run: annotation?.run ?? label,
            startedAt: new Date(timestamp.start * 1_000),
            endedAt: new Date(timestamp.stop * 1_000),
            lastFile: archive.stop,
            databaseBytes: info.size,
            addedBytes: info.repository.delta,
          }),
        ),
      )
    }),
  )
  return lists.flat()
}

/** What one run of `backup` made. */
type Run = {
  readonly name: string
  readonly type: string
  readonly startedAt: Date
  readonly endedAt: Date
  readonly groups: readonly string[]
  readonly databaseBytes: number
  readonly addedBytes: number
}

export type Inventory = {
  readonly runs: readonly Run[]
  /** The first and the last point that can be restored; undefined if there is none. */
  readonly first: Point | undefined
  readonly last: Point | undefined
  /** Points with names that can be restored, without those of the runs. */
  readonly named: readonly Point[]
  /** One sentence for each thing that is wrong. */
  readonly faults: readonly string[]
}

/** Lists what can be restored. @param isVerified true if every file is read, and its checksum compared */
export async function takeInventory(cluster: Cluster, isVerified: boolean): Promise<Inventory> {
  const { groups, recorders } = cluster.place.topology
  const runner = openOwn(cluster)
  const { folder } = runner.repository
  const backups = await listBackups(runner, groups)
  const isThere = (group: string, file: string) => isArchived(folder, group, file)
  const points = readPoints(folder)
  const isRestorable = (point: Point) => whyNot(point, backups, isThere) === undefined
  const runs = [...Map.groupBy(backups, ({ run }) => run)].map(
    ([name, parts]): Run => ({
      name,
      type: [...new Set(parts.map(({ type }) => type))].join(', '),
      startedAt: parts[0]!.startedAt,
      endedAt: parts.at(-1)!.endedAt,
      groups: parts.map(({ group }) => group),
      databaseBytes: parts.reduce((sum, part) => sum + part.databaseBytes, 0),
      addedBytes: parts.reduce((sum, part) => sum + part.addedBytes, 0),
    }),
  )
  const faults = groups
    .filter(({ name }) => !backups.some(({ group }) => group === name))
    .map(({ name }) => `there is no backup of group ${name}`)
  for (const { name } of recorders.filter(({ name }) => !isStartedIn(cluster.place)(name)))
    faults.push(`${name} does not run, so that there are no new restore points: restart it`)
  for (const group of isVerified ? groups : []) {
    const found = await runPgBackRest(runner, group, [], ['verify', '--output=text', '--verbose'])
    if (!/status: ok/.test(found)) faults.push(`group ${group.name}: ${found.trim()}`)
  }
  return {
    runs: runs.toSorted((a, b) => a.startedAt.getTime() - b.startedAt.getTime()),
    first: points.find(isRestorable),
    last: points.findLast(isRestorable),
    named: points.filter(
      (point) => isNamed(point) && !runs.some(({ name }) => name === point.name) && isRestorable(point),
    ),
    faults,
  }
}

export function renderInventory({ runs, first, last, named, faults }: Inventory): string {
  const table = runs.map(({ name, type, groups, startedAt, endedAt, databaseBytes, addedBytes }) => [
    name,
    type,
    groups.join(' '),
    startedAt.toISOString(),
    seconds(endedAt.getTime() - startedAt.getTime()),
    megabytes(databaseBytes),
    megabytes(addedBytes),
  ])
  const lines = [['backup', 'type', 'groups', 'begun', 'took', 'database', 'added'], ...table]
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  return [
    ...lines.map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    ),
    '',
    first && last
      ? `restore can go to any point from ${first.at} to ${last.at}`
      : 'nothing can be restored yet: there is no restore point after a backup of each group',
    ...named.map(({ name, at }) => `point ${name}: ${at}`),
    ...faults.map((fault) => `FAULT: ${fault}`),
  ].join('\n')
}

const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`
const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`

/** By group, whether the archive has a file of its log. */
type IsThere = (group: string, file: string) => boolean

/** Returns the place of a file in the log, without its timeline: places go on over timelines. */
const orderOf = (file: string) => file.slice(8)

/** Returns the newest backup of a group that ended before a point. */
const backupBefore = ({ files }: Point, group: string, backups: readonly Backup[]) =>
  backups.findLast((one) => one.group === group && orderOf(one.lastFile) < orderOf(files[group]!))

/** Returns why a point cannot be restored; undefined if it can. Pure. */
export function whyNot(point: Point, backups: readonly Backup[], isThere: IsThere): string | undefined {
  const groups = Object.keys(point.files)
  const uncopied = groups.find((group) => !backupBefore(point, group, backups))
  if (uncopied) return `no backup of group ${uncopied} is older`
  const unarchived = groups.find((group) => !isThere(group, point.files[group]!))
  return unarchived && `group ${unarchived} has not archived its log up to it`
}

/** What is restored: a point, and by group the backup to begin with. */
export type Choice = { readonly point: Point; readonly sets: Readonly<Record<string, string>> }

/**
 * Chooses what to restore. Pure.
 * @param target the name of a point, or a time: the last point before it is restored; the last point of all if undefined
 * @throws ClusterError if there is no such point, or if it cannot be restored
 */
export function choosePoint(
  target: string | undefined,
  points: readonly Point[],
  backups: readonly Backup[],
  isThere: IsThere,
): Choice {
  const choose = (point: Point): Choice => ({
    point,
    sets: Object.fromEntries(
      Object.keys(point.files).map((group) => [group, backupBefore(point, group, backups)!.label]),
    ),
  })
  const named = points.find(({ name }) => name === target)
  if (named) {
    const reason = whyNot(named, backups, isThere)
    if (reason) throw new ClusterError(`The point ${target} cannot be restored: ${reason}.`)
    return choose(named)
  }
  const time = target === undefined ? Number.POSITIVE_INFINITY : timeOf(target)
  const before = points.filter(({ at }) => Date.parse(at) <= time)
  const found = before.findLast((point) => !whyNot(point, backups, isThere))
  if (found) return choose(found)
  const last = before.at(-1)
  throw new ClusterError(
    last
      ? `No point ${target ? `until ${target} ` : ''}can be restored; to the last one: ${whyNot(last, backups, isThere)}.`
      : `There is no restore point ${target ? `until ${target}` : ''}; \`npm run cluster -- backups\` lists what there is.`,
  )
}

function timeOf(target: string): number {
  const time = /^\d{4}-\d\d-\d\d/.test(target) ? Date.parse(target) : Number.NaN
  if (Number.isNaN(time))
    throw new ClusterError(
      `There is no restore point ${target}; --to takes the name of one, or a time such as 2026-11-27T15:30:00Z.`,
    )
  return time
}
