// Owns measuring what the way through HAProxy costs while nothing fails. In one run the coordinator executes the same
// statements with its workers reached through their listeners, and directly, in turn. `npm run hop` prints both
// throughputs and their ratio.

import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { renderPassfile } from '../credentials.ts'
import { findPrimary } from '../launcher.ts'
import { openTrial } from './stage.ts'

const run = promisify(execFile)
const ROUNDS = 5
const SECONDS = 4
const CLIENTS = 8
const ROWS = 100_000

const STATEMENTS = {
  select: `\\set id random(1, ${ROWS})\nselect * from hop where id = :id;\n`,
  insert: "insert into hop (id) values (nextval('hop_new'));\n",
}

const say = (line: string) => process.stdout.write(`${line}\n`)
const trial = await openTrial({}, () => {})
try {
  const { place, programs, credentials } = trial.cluster
  const { topology } = place
  const { host, writePort } = topology.proxies[0]!
  await trial.query('create table hop (id bigint primary key, at timestamptz not null default now())')
  await trial.query(`create sequence hop_new start ${ROWS + 1}`)
  await trial.query(`select create_distributed_table('hop', 'id')`)
  await trial.query(`insert into hop select generate_series(1, ${ROWS})`)
  const primaries = await Promise.all(topology.groups.slice(1).map(findPrimary))
  const passfile = join(place.folder, 'hop.pgpass')
  writeFileSync(passfile, renderPassfile(credentials), { mode: 0o600 })

  /** Sets the ports at which the coordinator reaches the workers' primaries from now on. */
  const lead = async (way: 'connectPort' | 'postgresPort') => {
    for (const member of primaries)
      await trial.query(
        `select citus_update_node(nodeid, nodename, $1) from pg_dist_node
         where groupid = $2 and noderole = 'primary'`,
        [member[way], member.group],
      )
  }
  const measure = async (name: keyof typeof STATEMENTS): Promise<number> => {
    const file = join(place.folder, `${name}.sql`)
    writeFileSync(file, STATEMENTS[name])
    const connection = ['-h', host, '-p', String(writePort), '-U', 'postgres', 'tessera']
    const load = ['-n', '-M', 'prepared', '-c', String(CLIENTS), '-j', '2', '-T', String(SECONDS), '-f', file]
    const { stdout } = await run(join(programs.postgresBinaries, 'pgbench'), [...load, ...connection], {
      env: {
        ...process.env,
        PGPASSFILE: passfile,
        PGSSLMODE: 'verify-ca',
        PGSSLROOTCERT: credentials.authorityFile,
      },
    })
    return Number(/^tps = ([\d.]+)/m.exec(stdout)![1])
  }
  for (const name of Object.keys(STATEMENTS) as (keyof typeof STATEMENTS)[]) {
    const ratios: number[] = []
    for (let round = 0; round < ROUNDS; round++) {
      await lead('connectPort')
      const through = await measure(name)
      await lead('postgresPort')
      const direct = await measure(name)
      ratios.push(through / direct)
      say(`${name}: through HAProxy ${through.toFixed(0)}/s, directly ${direct.toFixed(0)}/s`)
    }
    const sorted = ratios.toSorted((a, b) => a - b).map((ratio) => ratio.toFixed(2))
    say(`${name}: ${sorted[sorted.length >> 1]} (${sorted[0]} .. ${sorted.at(-1)}) of the direct way`)
  }
} finally {
  await trial.close()
}
process.exit()
