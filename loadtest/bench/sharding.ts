// Owns what `npm run bench -- sharding` measures: a whole cluster, where the same cities are once sharded by place,
// once by id, and once lie on the coordinator alone, as on any node. All are asked for by the same way in.

import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { databaseUrls, gatewayUrl } from '../../cluster/database-urls.ts'
import { openTrial, type Trial } from '../../cluster/scenarios/stage.ts'
import {
  citiesText,
  type Duration,
  median,
  pgbench,
  run,
  span,
  startGateway,
  TESSERA,
  writeReport,
  wrk,
} from './measure.ts'

/** Where one side of a case is, and what it asks there. */
type Side = readonly string[]
type Case = {
  readonly name: string
  /** What requests prefer; such cases are for the gateway alone. */
  readonly prefer?: string
  /** Paths at the collection that is sharded by place. */
  readonly byCell: Side
  /** The same where there is one node. */
  readonly oneNode: Side
  /** The same where every shard has to be asked. */
  readonly fanOut: Side
}

const CONNECTIONS = [1, 8]
/** Cells of level 8 in the middle of Europe, where every one is full of places. */
const CELLS = { level: 8, west: 132, east: 135, north: 54, south: 60 }
const IDS = 100

/** A box within each cell. */
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

/** What is beside the demo's own cities. */
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
    // Look-ups are joined else, and those that ask every shard gain the more by it.
    { name: 'item by id, each a statement', prefer: 'consistency=eventual', ...byId },
  ]
}

type Plan = {
  readonly statement: string
  /** With the same parameters. */
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
 * A script that sends what the gateway sends: few statements, each time with the values of another plan. pgbench
 * binds its variables, which are numbers alone: an id, two numbers with a dot between, is put together of them.
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
  // In brackets: a colon may stand before it.
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

/** One of the cases of a variable in a script, from 0. */
const ifElse = (variable: string, value: number, lines: readonly string[]) =>
  [`\\${value === 0 ? 'if' : 'elif'} :${variable} = ${value}`, ...lines].join('\n')

export async function measureSharding({ rounds, seconds }: Duration) {
  const scratch = await mkdtemp(join(tmpdir(), 'tessera-bench-'))
  await chmod(scratch, 0o711)
  const say = (text: string) => process.stderr.write(`${text}\n`)
  say('a cluster of eight members …')
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
    // Its first start migrates the database, and imports the demo data.
    await (await startGateway(['--demo'], environment)).stop()
    await makeTables(trial)
    const source = join(scratch, 'cities.geojsonl')
    await writeFile(source, await citiesText())
    const importing = [TESSERA, 'import', source, '--collection', 'cities_by_id', '--distribute-by', 'id']
    await run(process.execPath, importing, { env: { ...process.env, ...environment } })
    const cases = await makeCases(trial)
    gateway = await startGateway([], environment)
    const { url } = gateway

    // The first of the proxies, as the gateway comes in, with the settings of the gateway's sessions.
    const readUrl = new URL(environment.TESSERA_READ_URL.split(',')[0]!)
    const password = { PGPASSWORD: decodeURIComponent(readUrl.password) }
    readUrl.password = ''
    const options = `${readUrl.searchParams.get('options')} -c citus.max_adaptive_executor_pool_size=1 -c jit=off -c max_parallel_workers_per_gather=0`
    readUrl.searchParams.set('options', options)
    const whereAt = (port: number | string) => {
      readUrl.port = String(port)
      // libpq takes no plus sign for a space.
      return [readUrl.href.replaceAll('+', '%20')]
    }
    const atCoordinator = whereAt(readUrl.port)

    const rows: Record<string, unknown>[] = []
    for (const { name, prefer, ...sides } of cases) {
      const tasks: Record<string, unknown> = {}
      let group = 0
      for (const [side, paths] of Object.entries(sides)) {
        const plans = await Promise.all(paths.map((path) => planOf(url, path)))
        tasks[side] = plans[0]!.tasks
        await writeFile(join(scratch, `${side}.sql`), scriptOf(plans))
        await writeFile(join(scratch, side), paths.join('\n'))
        if (side !== 'byCell') continue
        // As the gateway asks: where the cells lie. Those of one worker, which is asked then.
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
        const ask = (script: string, where: readonly string[]) =>
          pgbench(join(scratch, `${script}.sql`), connections, seconds, where, password)
        const bySql: Record<string, (side: string) => Promise<number>> = {
          'the SQL, at the coordinator': (side) => ask(side, atCoordinator),
          'the SQL, at the worker': (side) =>
            side === 'byCell' ? ask('near', atWorker) : ask(side, atCoordinator),
        }
        const ways: typeof bySql = {
          ...(prefer ? {} : bySql),
          'the gateway': (side) =>
            wrk(url, 'paths.lua', connections, seconds, {
              BENCH_PATHS: join(scratch, side),
              ...(prefer ? { BENCH_PREFER: prefer } : {}),
            }),
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
            way,
            connections,
            'by cell/s': Math.round(median(byCell)),
            'one node/s': Math.round(median(oneNode)),
            'of one node': Number(median(ofOneNode).toFixed(2)),
            '(span)': span(ofOneNode),
            'fan-out/s': Math.round(median(fanOut)),
            'times fan-out': Number(median(timesFanOut).toFixed(1)),
            '(its span)': span(timesFanOut),
          })
          say(`${name}, ${way}, ${connections} connection(s): done`)
        }
      }
    }
    await writeReport('sharding', rows, { rounds, seconds, ...(await versions(trial)) })
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
