// Tests the replicated cluster in containers, as `docker compose up` starts it. While features are posted through the
// gateway, primaries are killed, frozen and cut off, and services next to them are killed. A lost primary is succeeded
// within seconds, other node groups are not affected, and every acknowledged feature is there. A run in which every test
// passes writes its times to docs/results/containers.md.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeClient } from '../support/client.ts'
import { type Measurement, renderLine, writeReport } from '../support/container-report.ts'
import { openProject, whyNoContainers } from '../support/docker.ts'

const skip = whyNoContainers([
  'node:24-slim',
  'citusdata/citus:13.2.0',
  'haproxy:3.2',
  'quay.io/coreos/etcd:v3.6.14',
])
const { compose, docker, describeEngine, url, statisticsUrl } = await openProject('docker-compose.yml', skip)
const client = makeClient(url)

/** Number of concurrent look-ups of the features that were acknowledged. */
const CHECKERS = 16
/**
 * Milliseconds within which HAProxy leads to a successor. It takes longer for a frozen primary, because its kernel still
 * accepts connections: only its silence shows that it is lost.
 */
const SUCCESSION_MS = { killed: 8_000, 'cut off': 8_000, frozen: 12_000 }
/** Longest pause of a group that has lost nothing, in milliseconds: as on a busy machine, but without a failover. */
const UNTOUCHED_PAUSE_MS = 5_000
/** Milliseconds within which the cluster is healthy again. No such time is promised, so it is generous. */
const WHOLE_MS = 180_000

type Status = {
  readonly members: readonly {
    readonly name: string
    readonly group: string
    readonly role: string
    readonly timeline?: number
  }[]
  readonly rows: readonly { readonly table: string; readonly byGroup: Readonly<Record<string, number>> }[]
  readonly faults: readonly string[]
}

/** Reads the status, also if the command fails because the cluster is not healthy. */
const readStatus = async (): Promise<Status> => {
  const command = ['run', '--rm', '--no-deps', '--no-TTY', 'prepare', 'status', '--json']
  const text = await compose(...command).catch((error: { stdout: string }) => error.stdout)
  return JSON.parse(text)
}

/** Waits until the cluster is healthy. @returns milliseconds since `start` */
async function untilWhole(withinMs: number, start = performance.now()): Promise<number> {
  for (;;) {
    const { faults } = await readStatus()
    const ms = performance.now() - start
    if (faults.length === 0) return ms
    assert.ok(ms < withinMs, faults.join('; '))
    await sleep(500)
  }
}

/** Returns the primary and the timeline of each group, which change only when a primary is succeeded. */
async function readReigns(): Promise<Readonly<Record<string, string>>> {
  const { members } = await readStatus()
  const primaries = members.filter(({ role }) => role === 'primary')
  return Object.fromEntries(primaries.map(({ group, name, timeline }) => [group, `${name} ${timeline}`]))
}

/** Returns the member to which HAProxy sends the changes of a group; undefined if there is none. */
async function servedBy(group: string): Promise<string | undefined> {
  const response = await fetch(`${statisticsUrl}/;csv`)
  const [head, ...lines] = (await response.text()).split('\n').map((line) => line.split(','))
  const [server, status] = [head!.indexOf('svname'), head!.indexOf('status')]
  const port = group === 'c' ? 'write' : `${group}-write`
  return lines.find((line) => line[0] === port && line[server] !== 'BACKEND' && line[status] === 'UP')?.[
    server
  ]
}

/** Queries the database at the first HAProxy, not through the gateway. @returns rows, with `|` between their fields */
async function query(sql: string): Promise<readonly string[]> {
  const at = 'host=proxy1 port=5000 user=postgres dbname=tessera sslmode=require'
  return (await compose('exec', '--no-TTY', 'cb', 'psql', '-Atc', sql, at)).trim().split('\n')
}

/** Returns for each worker group a longitude whose features it has. */
async function findPlaces(): Promise<Readonly<Record<string, number>>> {
  const rows = await query(`select distinct on (groupid) groupid, x from generate_series(-171, 171, 15) x
    join pg_dist_placement on shardid = get_shard_id_for_distribution_column('cities',
      tessera.cell(st_setsrid(st_makepoint(x, ${LATITUDE}), 4326), (
        select substring(pg_get_constraintdef(oid) from 'cell\\(geom, (\\d+)\\)')::int from pg_constraint
        where conrelid = 'cities'::regclass and conname like 'cell_of_geom%')))`)
  const found = rows.map((row) => row.split('|'))
  return Object.fromEntries(found.map(([group, x]) => [`w${group}`, Number(x)]))
}
const LATITUDE = 1

/** Returns the programs that run, with their versions as they report them. */
async function readSoftware(): Promise<readonly string[]> {
  const inContainer = (service: string, ...command: string[]) =>
    compose('exec', '--no-TTY', service, ...command)
  const versionIn = (text: string) => /\d+\.\d[\d.]*/.exec(text)![0]
  const [database] = await query(`select concat_ws(', ',
    'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1),
    substring(citus_version() from '^Citus [0-9.]+'), 'PostGIS ' || postgis_lib_version())`)
  return [
    database!,
    `Patroni ${versionIn(await inContainer('ca', '/opt/patroni/bin/patroni', '--version'))}`,
    `etcd ${versionIn(await inContainer('etcd1', '/usr/local/bin/etcd', '--version'))}`,
    `HAProxy ${versionIn(await inContainer('proxy1', 'haproxy', '-v'))}`,
    await describeEngine(),
  ]
}

let places: Readonly<Record<string, number>> = {}
let key = ''
/** Programs that the containers and the engine run, with their versions. */
let software: readonly string[] = []

type Poster = { readonly group: string; longestPauseMs: number; readonly acknowledged: string[] }

/** Posts features into each worker group, one after another, and keeps those that were acknowledged. */
function startPosting() {
  let isRunning = true
  assert.equal(Object.keys(places).length, 3)
  const posters = Object.keys(places).map((group): Poster => ({ group, longestPauseMs: 0, acknowledged: [] }))
  const post = async (poster: Poster) => {
    let servedAt = performance.now()
    for (let number = 0; isRunning; number++) {
      const response = await fetch(`${url}/collections/cities/items`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/geo+json' },
        body: JSON.stringify({
          type: 'Feature',
          geometry: { type: 'Point', coordinates: [places[poster.group], LATITUDE] },
          properties: { name: `posted ${number}`, country: 'XX' },
        }),
        signal: AbortSignal.timeout(15_000),
      }).catch(() => undefined)
      if (response?.status === 201) {
        poster.acknowledged.push(response.headers.get('location')!)
        poster.longestPauseMs = Math.max(poster.longestPauseMs, performance.now() - servedAt)
        servedAt = performance.now()
      }
      await response?.body?.cancel().catch(() => {})
      await sleep(50)
    }
  }
  const posting = Promise.all(posters.map(post))
  return {
    posters,
    areServedSince: (counts: readonly number[]) =>
      posters.every(({ acknowledged }, index) => acknowledged.length > counts[index]!),
    counts: () => posters.map(({ acknowledged }) => acknowledged.length),
    async stop() {
      isRunning = false
      await posting
      return posters.flatMap(({ acknowledged }) => acknowledged)
    },
  }
}

async function until(
  what: string,
  withinMs: number,
  find: () => Promise<boolean> | boolean,
): Promise<number> {
  const start = performance.now()
  for (;;) {
    if (await find()) return performance.now() - start
    assert.ok(performance.now() - start < withinMs, `not within ${withinMs / 1_000} s: ${what}`)
    await sleep(100)
  }
}

/** @returns for each feature that is not there, its URL and the answer */
async function findLost(locations: readonly string[]): Promise<readonly string[]> {
  const lost: string[] = []
  const check = async (checker: number) => {
    for (let index = checker; index < locations.length; index += CHECKERS) {
      const response = await fetch(locations[index]!)
      const text = await response.text()
      if (response.status !== 200) lost.push(`${locations[index]}: ${response.status} ${text}`)
    }
  }
  await Promise.all(Array.from({ length: CHECKERS }, (_, checker) => check(checker)))
  return lost
}

const measurements: Measurement[] = []

function keep(measurement: Measurement) {
  measurements.push(measurement)
  process.stderr.write(`${renderLine(measurement)}\n`)
}

type Posting = ReturnType<typeof startPosting>
type Struck = {
  /** Group that is struck. Without the coordinator, and if there is no such group, changes of all groups pause. */
  readonly group?: string | undefined
  /** Time since which nothing keeps the cluster from being healthy. */
  readonly undoneAt: number
  readonly succeededMs?: number
}

/** Plays a fault while features are posted. @returns what it showed, once the cluster is healthy again */
async function play(fault: string, strike: (posting: Posting) => Promise<Struck>): Promise<Measurement> {
  const posting = startPosting()
  try {
    await until('all groups take features', 30_000, () => posting.areServedSince([0, 0, 0]))
    for (const poster of posting.posters) poster.longestPauseMs = 0
    const { group, undoneAt, succeededMs } = await strike(posting)
    const wholeMs = await untilWhole(WHOLE_MS, undoneAt)
    const counts = posting.counts()
    await until('all groups take features again', 60_000, () => posting.areServedSince(counts))
    const acknowledged = await posting.stop()
    const lost = await findLost(acknowledged)
    assert.deepEqual(lost, [], `${lost.length} of ${acknowledged.length} features are lost`)
    const isStruck = (poster: Poster) => group === undefined || group === 'c' || poster.group === group
    const longest = (posters: readonly Poster[]) =>
      Math.max(...posters.map(({ longestPauseMs }) => longestPauseMs))
    const others = posting.posters.filter((poster) => !isStruck(poster))
    return {
      fault,
      succeededMs,
      pauseMs: longest(posting.posters.filter(isStruck)),
      otherPauseMs: others.length === 0 ? undefined : longest(others),
      wholeMs,
      acknowledged: acknowledged.length,
      lost: lost.length,
    }
  } finally {
    await posting.stop()
  }
}

test('one command brings up the cluster, its gateway and the demo data', {
  skip,
  timeout: 900_000,
}, async () => {
  await compose('build')
  const start = performance.now()
  await compose('up', '--detach', '--wait', '--wait-timeout', '300').catch(async (error) => {
    throw new Error(`${error.message}\n${await compose('logs', '--tail', '40')}`)
  })
  process.stderr.write(`up and serving after ${Math.round((performance.now() - start) / 1000)} s\n`)
  const { json } = await client('/collections/cities/items?bbox=5,45,11,48&limit=5')
  assert.equal(json.numberReturned, 5)
  await untilWhole(60_000)
  const { members, rows } = await readStatus()
  assert.equal(members.length, 8)
  const cities = Object.values(rows.find(({ table }) => table === 'cities')!.byGroup)
  assert.equal(cities.length, 3)
  assert.equal(
    cities.reduce((sum, count) => sum + count),
    171_075,
  )
  places = await findPlaces()
  assert.deepEqual(Object.keys(places).toSorted(), ['w1', 'w2', 'w3'])
  const inManage = ['run', '--rm', '--no-deps', '--no-TTY', 'manage']
  key = (await compose(...inManage, 'keys', 'create', 'test')).trim()
  software = await readSoftware()
})

test('members are reached only through HAProxy, and the gateway does not see the secrets of others', {
  skip,
}, async () => {
  const published = await compose('ps', '--format', '{{.Service}} {{.Publishers}}')
  for (const line of published.trim().split('\n'))
    if (!line.startsWith('proxy')) assert.doesNotMatch(line, /127\.0\.0\.1|0\.0\.0\.0/, line)
  const exec = (service: string, ...command: string[]) => compose('exec', '--no-TTY', service, ...command)
  for (const folder of ['node', 'manage']) await assert.rejects(exec('gateway1', 'ls', `/config/${folder}`))
  assert.doesNotMatch(await exec('gateway1', 'ls', '/config/gateway'), /owner/)
  await assert.rejects(
    exec(
      'gateway1',
      'node',
      '-e',
      "require('net').connect(5432, 'w1a').on('error', (e) => { throw e }).on('connect', () => process.exit())",
    ),
  )
  const logs = await compose('logs')
  for (const role of ['tessera_write', 'tessera_read']) {
    const { password } = new URL(await exec('gateway1', 'cat', `/config/gateway/${role}.url`))
    assert.ok(password.length > 20)
    assert.ok(!logs.includes(password), `the log shows the password of ${role}`)
  }
})

type Undo = () => Promise<unknown>
type Inject = (name: string) => Promise<Undo>

const inflict: Readonly<Record<'killed' | 'frozen' | 'cut off', Inject>> = {
  async killed(name) {
    await docker(['kill'], name)
    return () => docker(['start'], name)
  },
  async frozen(name) {
    await pause(name)
    return () => docker(['unpause'], name)
  },
  async 'cut off'(name) {
    // A member has one network.
    const format = '{{range $network, $_ := .NetworkSettings.Networks}}{{$network}}{{end}}'
    const network = (await docker(['inspect', '--format', format], name)).trim()
    await docker(['network', 'disconnect', network], name)
    return () => docker(['network', 'connect', '--alias', name, network], name)
  },
}

/** Pauses a container. With cgroups v1 a busy container may escape the freezer, so this is repeated. */
async function pause(name: string, attempts = 20): Promise<void> {
  await docker(['pause'], name).catch(async (error) => {
    if (attempts === 0 || !/unable to freeze/.test(error.message)) throw error
    await sleep(100)
    await pause(name, attempts - 1)
  })
}

const strikes: readonly [what: keyof typeof inflict, group: string][] = [
  ['killed', 'w1'],
  ['cut off', 'w3'],
  ['frozen', 'w2'],
  ['killed', 'c'],
  ['cut off', 'c'],
  ['frozen', 'c'],
]

for (const [what, group] of strikes) {
  const whose = group === 'c' ? "the coordinator's" : "a worker's"
  test(`${whose} primary is ${what}: it is succeeded, other groups are not affected, and nothing is lost`, {
    skip,
    timeout: 400_000,
  }, async () => {
    const { [group]: before, ...othersBefore } = await readReigns()
    const measurement = await play(`${whose} primary is ${what}`, async (posting) => {
      const struck = (await servedBy(group))!
      const undo = await inflict[what](struck)
      try {
        const succeededMs = await until(`${struck} is succeeded`, 60_000, async () => {
          const now = await servedBy(group)
          return now !== undefined && now !== struck
        })
        const counts = posting.counts()
        await until('its successor takes features', 30_000, () => posting.areServedSince(counts))
        // Long enough for a wrong failover of another group to show.
        await sleep(15_000)
        return { group, succeededMs, undoneAt: performance.now() }
      } finally {
        await undo()
      }
    })
    const { succeededMs, otherPauseMs = 0 } = measurement
    assert.ok(succeededMs! < SUCCESSION_MS[what], `${group} was succeeded after ${succeededMs} ms`)
    assert.ok(otherPauseMs < UNTOUCHED_PAUSE_MS, `another group paused for ${otherPauseMs} ms`)
    const { [group]: own, ...others } = await readReigns()
    assert.notEqual(own, before)
    assert.deepEqual(others, othersBefore)
    keep(measurement)
  })
}

/**
 * Orders in which a former primary and its successor come back after both were frozen. After LEASE_MS the successor's
 * leader key has expired.
 */
const comebacks: Readonly<Record<string, (former: Undo, successor: Undo) => Promise<unknown>>> = {
  'the former primary first': async (former, successor) => {
    await sleep(LEASE_MS)
    await former()
    await sleep(COMEBACK_MS)
    await successor()
  },
  'the successor first': async (former, successor) => {
    await sleep(LEASE_MS)
    await successor()
    await sleep(COMEBACK_MS)
    await former()
  },
  'both at once': async (former, successor) => {
    await sleep(LEASE_MS)
    await Promise.all([former(), successor()])
  },
  'the former primary early': async (former, successor) => {
    await former()
    await sleep(LEASE_MS)
    await successor()
  },
}
const LEASE_MS = 26_000
const COMEBACK_MS = 12_000
/** Milliseconds in which only the successor takes changes. */
const REIGN_MS = 600

const doubles = ['w1', 'c'].flatMap((group) =>
  Object.keys(comebacks).map((order): [group: string, order: string] => [group, order]),
)

for (const [group, order] of doubles) {
  const whose = group === 'c' ? "the coordinator's" : "a worker's"
  const fault = `${whose} primary and then its successor are frozen, and come back (${order})`
  test(`${fault}: nothing is lost`, { skip, timeout: 400_000 }, async () => {
    const measurement = await play(fault, async () => {
      const former = (await servedBy(group))!
      let successor: string | undefined
      try {
        const wakeFormer = await inflict.frozen(former)
        const succeededMs = await until(`${former} is succeeded`, 60_000, async () => {
          successor = await servedBy(group)
          return successor !== undefined && successor !== former
        })
        await sleep(REIGN_MS)
        const wakeSuccessor = await inflict.frozen(successor!)
        await comebacks[order]!(wakeFormer, wakeSuccessor)
        return { group, succeededMs, undoneAt: performance.now() }
      } finally {
        for (const name of [former, successor]) if (name) await docker(['unpause'], name).catch(() => {})
      }
    })
    keep(measurement)
  })
}

/** Kills the master and the worker of HAProxy, in a container without procps. */
const KILL_PROXY =
  'for name in $(grep -lx haproxy /proc/[0-9]*/comm); do kill -9 $(echo $name | cut -d/ -f3); done'

type Neighbour = {
  readonly what: string
  /** Group whose primary may be succeeded. */
  readonly group?: string
  /** Returns how the fault is undone; nothing if that happens by itself. */
  inject(): Promise<Undo | undefined>
}

const neighbours: readonly Neighbour[] = [
  {
    what: "a worker's primary loses its proxy",
    group: 'w1',
    async inject() {
      // The member's container ends with its proxy, and the engine starts it again.
      await compose('exec', '--no-TTY', (await servedBy('w1'))!, 'bash', '-c', KILL_PROXY)
      return undefined
    },
  },
  { what: 'an etcd is killed', inject: () => inflict.killed('etcd1') },
  { what: 'a fencer is killed', inject: () => inflict.killed('fencer1') },
  { what: 'the gateway is killed', inject: () => inflict.killed('gateway1') },
]

for (const { what, group, inject } of neighbours) {
  test(`${what}: nothing is lost, and no other primary is succeeded`, {
    skip,
    timeout: 400_000,
  }, async () => {
    const before = await readReigns()
    const measurement = await play(what, async () => {
      const undo = await inject()
      const injectedAt = performance.now()
      await sleep(5_000)
      if (!undo) return { group, undoneAt: injectedAt }
      const undoneAt = performance.now()
      await undo()
      return { group, undoneAt }
    })
    const reigns = await readReigns()
    for (const name of Object.keys(before)) if (name !== group) assert.equal(reigns[name], before[name])
    keep(measurement)
  })
}

const allKilled = 'all containers are killed at once'

test(`${allKilled}: the cluster serves again, and nothing is lost`, {
  skip,
  timeout: 600_000,
}, async () => {
  const measurement = await play(allKilled, async (posting) => {
    await compose('kill')
    const undoneAt = performance.now()
    await compose('up', '--detach', '--wait', '--wait-timeout', '300')
    const counts = posting.counts()
    await until('all groups take features again', 120_000, () => posting.areServedSince(counts))
    return { undoneAt }
  })
  keep(measurement)
})

test('the cluster stops when it is told to', { skip, timeout: 120_000 }, async () => {
  await compose('stop', '--timeout', '60')
  const codes = await compose('ps', '--all', '--format', '{{.Service}} {{.ExitCode}}')
  for (const line of codes.trim().split('\n')) assert.match(line, / (0|143)$/, line)
})

after(() => {
  // An assertion that fails keeps its fault out of the report, so the report is that of a run that kept every promise.
  if (measurements.length === strikes.length + doubles.length + neighbours.length + 1)
    writeReport(measurements, software)
})
