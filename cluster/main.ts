#!/usr/bin/env node
// Owns `npm run cluster -- …`: the launcher's command line. The only process.exit of the cluster.

import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { destroy, down, openSecrets, type Report, startGateways, up } from './launcher.ts'
import { ClusterError, findPlace, findProgram, findPrograms, type Place, toolsOf } from './place.ts'
import { readStatus, renderStatus } from './status.ts'
import type { Size } from './topology.ts'

const USAGE = `npm run cluster -- COMMAND [--data FOLDER]

  setup                              install what can be installed, and say what is missing
  up [--workers 3] [--members 2]     from nothing to a cluster that serves; again is harmless
     [--gateways 1] [--base-port N]
     [--plain]                       one pair without Citus
     [--no-gateway]                  the databases alone
  status [--json] [--watch]
  logs NAME                          of a member, proxy, etcd or gateway
  down                               stop everything; the data stays
  destroy                            and remove it
`

const OPTIONS = {
  data: { type: 'string' },
  workers: { type: 'string' },
  members: { type: 'string' },
  gateways: { type: 'string' },
  'base-port': { type: 'string' },
  plain: { type: 'boolean' },
  gateway: { type: 'boolean', default: true },
  json: { type: 'boolean' },
  watch: { type: 'boolean' },
} as const

const say: Report = (line) => process.stdout.write(`${line}\n`)
const WATCH_INTERVAL_MS = 1_000
/** Patroni's own name for its newest; from 4.0 on it registers secondaries with Citus. */
const PATRONI = 'patroni[etcd3]>=4.1,<5'

type Values = ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>['values']

function sizeOf({ workers, members, gateways, plain, 'base-port': basePort }: Values): Partial<Size> {
  const number = (name: string, text: string | undefined, least: number, most: number) => {
    if (text === undefined) return {}
    const value = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN
    if (value >= least && value <= most) return { [name]: value }
    throw new ClusterError(`--${name}=${text}: must be an integer from ${least} to ${most}.`)
  }
  return {
    ...number('workers', workers, 1, 9),
    ...number('members', members, 1, 4),
    ...number('gateways', gateways, 0, 16),
    ...number('basePort', basePort, 1_024, 64_000),
    ...(plain ? { workers: 0 } : {}),
  }
}

function setup(place: Place) {
  const packages = { etcd: 'etcd-server', haproxy: 'haproxy', python3: 'python3-venv', openssl: 'openssl' }
  const missing = Object.entries(packages).filter(([program]) => !findProgram(program))
  if (missing.length > 0) {
    const names = missing.map(([, name]) => name)
    if (process.getuid?.() !== 0 || !findProgram('apt-get'))
      throw new ClusterError(`Missing: ${names.join(', ')}; install them with your system's package manager.`)
    say(`installing ${names.join(' ')} …`)
    run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...names])
  }
  const tools = toolsOf(place)
  if (!existsSync(join(tools, 'bin/patroni'))) {
    say(`installing Patroni into ${tools} …`)
    mkdirSync(tools, { recursive: true })
    chmodSync(tools, 0o755)
    // The system's own: another may lie in a home that the cluster's account cannot enter.
    run(existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3', ['-m', 'venv', tools])
    run(join(tools, 'bin/pip'), [
      'install',
      '--quiet',
      '--disable-pip-version-check',
      PATRONI,
      'psycopg2-binary',
    ])
  }
  const { hasCitus } = findPrograms(place)
  say(
    hasCitus
      ? 'everything is there'
      : 'everything is there but Citus, whose packages are at citusdata.com; without it, up --plain runs one pair',
  )
}

function run(command: string, args: readonly string[]) {
  const { status } = spawnSync(command, args, {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  })
  if (status !== 0) throw new ClusterError(`${command} ${args.join(' ')} failed; see above.`)
}

async function main() {
  const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true, allowNegative: true })
  const [command, subject, ...rest] = positionals
  if (rest.length > 0) throw new ClusterError(`${rest[0]} is one word too many.\n\n${USAGE}`)
  const place = findPlace(values.data, sizeOf(values))
  switch (command) {
    case 'setup':
      return setup(place)
    case 'up': {
      const programs = findPrograms(place)
      if (place.topology.isCitus && !programs.hasCitus)
        throw new ClusterError('Citus is not installed: up --plain runs one pair without it.')
      await up(place, programs, say)
      const { proxies } = place.topology
      if (values.gateway) {
        await startGateways(place, ['--demo'])
        say(
          `gateways: http://${place.topology.address}:${proxies[0]!.httpPort} (when they have the demo data)`,
        )
      }
      say(`statistics: http://${place.topology.address}:${proxies[0]!.statisticsPort}`)
      return
    }
    case 'status': {
      const credentials = await openSecrets(place)
      for (;;) {
        const status = await readStatus(place, credentials)
        if (values.json) say(JSON.stringify(status))
        else say((values.watch ? '\x1b[2J\x1b[H' : '') + renderStatus(status))
        if (!values.watch) {
          process.exitCode = status.faults.length > 0 ? 1 : 0
          return
        }
        await new Promise((resolve) => setTimeout(resolve, WATCH_INTERVAL_MS))
      }
    }
    case 'logs':
      if (!subject) throw new ClusterError(`logs takes a name.\n\n${USAGE}`)
      execFileSync('tail', ['-n', '200', join(place.runFolder, `${subject.replace(/[^\w]/g, '')}.log`)], {
        stdio: 'inherit',
      })
      return
    case 'down':
      return down(place, say)
    case 'destroy':
      return destroy(place, say)
    default:
      throw new ClusterError(USAGE)
  }
}

try {
  await main()
} catch (error) {
  process.stderr.write(`${error instanceof ClusterError ? error.message : (error as Error).stack}\n`)
  process.exit(1)
}
process.exit()
