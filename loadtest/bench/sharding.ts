// Owns `npm run bench -- sharding`: the same cities on one cluster, distributed by cell, distributed by id, and as a
// plain table on the coordinator, as on a single node. All are queried through the same proxy.

import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { databaseUrls, gatewayUrl } from '../../cluster/database-urls.ts'
import { openTrial, type Trial } from '../../cluster/scenarios/stage.ts'
import {
  citiesText,
  type Duration,
  type HttpRequest,
  median,
  pgbench,
  run,
  span,
  startGateway,
  TESSERA,
  writeReport,
  wrk,
} from './measure.ts'

/** Paths that one side of a case requests. */
type Side = readonly string[]
type Case = {
  readonly name: string
  /** Prefer header of the requests; a case with one is measured only through the gateway. */
  readonly prefer?: string
  /** Paths at the collection that is distributed by cell. */
  readonly byCell: Side
  /** The same at the table on one node. */
  readonly oneNode: Side
  /** The same at a collection for which every shard has to be queried. */
  readonly fanOut: Side
}

const CONNECTIONS = [1, 8]
/** Cells of level 8 in central Europe, each of which has many cities. */
const CELLS = { level: 8, west: 132, east: 135, north: 54, south: 60 }
const IDS = 100

/** Returns a box within each of the cells. */
function boxes(): string[] {
  const { level, west, east, north, south } = CELLS
  const [width, height] = [360 / 2 ** level, 180 / 2 ** level]
  const found: string[] = []
  for (let row = north; row <= south; row++) {
    for (let column = west; column <= east; column++) {
      const [x, y] = [column * width - 180, 90 - row * height]
      const corners = [x + width * 0.1, y - height * 0.9, x + width * 0.9, y - height * 0.1]
      found.push(corners.map((corner) => corner.toFixed(4)).join())
    }
  }
  return found
}

/** Creates the table and the view that are compared with the demo's cities. */
async function makeTables(trial: Trial) {
  await trial.query(`
    set role tessera_owner;
    create table cities_of_one_node as select * from cities;
    alter table cities_of_one_node add primary key (cell, id),
      add constraint cell_of_geom check (cell = tessera.cell(geom, 8));
    create index on cities_of_one_node using gist (geom);
    create index on cities_of_one_node (id);
    analyze cities_of_one_node;
    create view cities_without_cells as select id, geom, name, country, admin1, admin2 from cities;
    reset role`)
}

async function makeCases(trial: Trial): Promise<Case[]> {
  const rows = await trial.query(`select id from cities order by md5(id) limit ${IDS}`)
  const ids: string[] = rows.map(({ id }) => id)
  const pages = (collection: string) =>
    boxes().map((box) => `/collections/${collection}/items?limit=100&bbox=${box}`)
  const items = (collection: string) => ids.map((id) => `/collections/${collection}/items/${id}`)
  const byId = {
    byCell: items('cities'),
    oneNode: items('cities_of_one_node'),
    fanOut: items('cities_without_cells'),
  }
  return [
    {
      name: 'bbox in a cell',
      byCell: pages('cities'),
      oneNode: pages('cities_of_one_node'),
      fanOut: pages('cities_by_id'),
    },
    { name: 'item by id', ...byId },
    // Without this preference look-ups are joined into one statement, and those of every shard gain most from that.
    { name: 'item by id, each a statement', prefer: 'consistency=eventual', ...byId },
  ]
}

type Plan = {
  readonly statement: string
  /** The statement for the shard's own table, with the same parameters. */
  readonly statementOfShard?: string
  readonly parameters: readonly unknown[]
  readonly tasks?: number
  readonly nodeGroups?: readonly number[]
}

async function planOf(url: string, path: string): Promise<Plan> {
  const answer = await fetch(`${url}${path}${path.includes('?') ? '&' : '?'}explain=1`)
  if (!answer.ok) throw new Error(`${path}: ${await answer.text()}`)
  return (await answer.json()) as Plan
}

/**
 * Returns a pgbench script that sends what the gateway sends: few statements, each time with the values of a random
 * plan. pgbench can bind only numbers, so an id (two numbers with a dot between) is concatenated from two variables.
 */
function scriptOf(plans: readonly Plan[], statementOf = ({ statement }: Plan) => statement): string {
  const [{ parameters }] = plans as [Plan]
  const statements = [...new Set(plans.map(statementOf))]
  const numbersOf = (plan: Plan) =>
    plan.parameters.flatMap((value) => (typeof value === 'string' ? value.split('.') : [value]))
  const cases = plans.map((plan, index) => {
    const settings = numbersOf(plan).map((value, position) => `\\set v${position} ${value}`)
    return ifElse('n', index, [...settings, `\\set statement ${statements.indexOf(statementOf(plan))}`])
  })
  let position = 0
  // In parentheses, in case a colon precedes it: pgbench would read `::` as a cast.
  const next = () => `(:v${position++})`
  const values = parameters.map((value) =>
    typeof value === 'string' ? value.split('.').map(next).join(" || '.' || ") : next(),
  )
  const texts = statements.map((statement, index) => {
    const text = statement.replace(/\$(\d+)/g, (_, parameter) => values[Number(parameter) - 1]!)
    return ifElse('statement', index, [`${text};`])
  })
  return [`\\set n random(0, ${plans.length - 1})`, ...cases, '\\endif', ...texts, '\\endif', ''].join('\n')
}

/** Returns one branch of a conditional on a variable in a script; the branches are numbered from 0. */
const ifElse = (variable: string, value: number, lines: readonly string[]) =>
  [`\\${value === 0 ? 'if' : 'elif'} :${variable} = ${value}`, ...lines].join('\n')

export async function measureSharding({ rounds, seconds }: Duration) {
  const scratch = await mkdtemp(join(tmpdir(), 'tessera-bench-'))
  await chmod(scratch, 0o711)
  const say = (text: string) => process.stderr.write(`${text}\n`)
  say('starting a cluster of eight members …')
  const trial = await openTrial({}, () => {})
  const { place, credentials } = trial.cluster
  const urlOf = (role: 'tessera_read' | 'tessera_owner') => databaseUrls(place.topology, credentials, role)
  let gateway: Awaited<ReturnType<typeof startGateway>> | undefined
  try {
    const environment = {
      TESSERA_READ_URL: urlOf('tessera_read'),
      TESSERA_WORKER_READ_URL: gatewayUrl(place.topology, credentials, 'tessera_worker_read'),
      TESSERA_OWNER_URL: urlOf('tessera_owner'),
    }
    // The first start migrates the database and imports the demo data.
    await (await startGateway(['--demo'], environment)).stop()
    await makeTables(trial)
    const source = join(scratch, 'cities.geojsonl')
    await writeFile(source, await citiesText())
    const importing = [TESSERA, 'import', source, '--collection', 'cities_by_id', '--distribute-by', 'id']
    await run(process.execPath, importing, { env: { ...process.env, ...environment } })
    const cases = await makeCases(trial)
    gateway = await startGateway([], environment)
    const { url } = gateway

    // pgbench connects like the gateway: through the first proxy, with the settings of the gateway's sessions.
    const readUrl = new URL(environment.TESSERA_READ_URL.split(',')[0]!)
    const password = { PGPASSWORD: decodeURIComponent(readUrl.password) }
    readUrl.password = ''
    const options = `${readUrl.searchParams.get('options')} -c citus.max_adaptive_executor_pool_size=1 -c jit=off -c max_parallel_workers_per_gather=0`
    readUrl.searchParams.set('options', options)
    const whereAt = (port: number | string) => {
      readUrl.port = String(port)
      // libpq does not read a plus sign as a space.
      return [readUrl.href.replaceAll('+', '%20')]
    }
    const atCoordinator = whereAt(readUrl.port)

    const rows: Record<string, string | number>[] = []
    for (const { name, prefer, ...sides } of cases) {
      const tasks: Record<string, unknown> = {}
      const requests: Record<string, HttpRequest[]> = {}
      let group = 0
      for (const [side, paths] of Object.entries(sides)) {
        const plans = await Promise.all(paths.map((path) => planOf(url, path)))
        tasks[side] = plans[0]!.tasks
        await writeFile(join(scratch, `${side}.sql`), scriptOf(plans))
        requests[side] = paths.map((path) => ({ path, ...(prefer ? { headers: { prefer } } : {}) }))
        if (side !== 'byCell') continue
        // The gateway queries the worker that has the cells. pgbench connects to one worker, so it gets only its plans.
        group = plans[0]!.nodeGroups![0]!
        const near = plans.filter(({ nodeGroups }) => nodeGroups![0] === group)
        await writeFile(
          join(scratch, 'near.sql'),
          scriptOf(near, ({ statementOfShard }) => statementOfShard!),
        )
      }
      const atWorker = whereAt(place.topology.proxies[0]!.groupPorts.get(group)!.read)
      say(`${name}: tasks ${JSON.stringify(tasks)}`)
      for (const connections of CONNECTIONS) {
        const ask = async (script: string, where: readonly string[]) =>
          (await pgbench(join(scratch, `${script}.sql`), connections, seconds, where, password)).perSecond
        const bySql: Record<string, (side: string) => Promise<number>> = {
          'SQL at the coordinator': (side) => ask(side, atCoordinator),
          'SQL at the worker': (side) =>
            side === 'byCell' ? ask('near', atWorker) : ask(side, atCoordinator),
        }
        const ways: typeof bySql = {
          ...(prefer ? {} : bySql),
          gateway: async (side) => (await wrk(url, requests[side]!, connections, seconds)).perSecond,
        }
        for (const [way, measure] of Object.entries(ways)) {
          const [byCell, oneNode, fanOut]: [number[], number[], number[]] = [[], [], []]
          for (let round = 0; round < rounds; round++) {
            byCell.push(await measure('byCell'))
            oneNode.push(await measure('oneNode'))
            fanOut.push(await measure('fanOut'))
          }
          const ofOneNode = byCell.map((rate, round) => rate / oneNode[round]!)
          const timesFanOut = fanOut.map((rate, round) => byCell[round]! / rate)
          rows.push({
            case: name,
            'asked through': way,
            connections,
            'by cell/s': Math.round(median(byCell)),
            'one node/s': Math.round(median(oneNode)),
            'by cell : one node': Number(median(ofOneNode).toFixed(2)),
            'least .. most': span(ofOneNode),
            'every shard/s': Math.round(median(fanOut)),
            'by cell : every shard': Number(median(timesFanOut).toFixed(1)),
            'from .. to': span(timesFanOut),
          })
          say(`${name}, ${way}, ${connections} connection(s): done`)
        }
      }
    }
    writeReport('sharding', 'Cells on a cluster', rows, { rounds, seconds, ...(await versions(trial)) })
  } finally {
    await gateway?.stop()
    await trial.close()
    await rm(scratch, { recursive: true, force: true })
  }
}

async function versions(trial: Trial) {
  const [row] = await trial.query(
    `select current_setting('server_version') as postgresql, postgis_lib_version() as postgis, extversion as citus
     from pg_extension where extname = 'citus'`,
  )
  return row!
}
