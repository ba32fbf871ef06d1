// Owns installing Patroni, in a Python environment of its own; setup.mjs installs the system's packages.

import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Report } from './launcher.ts'
import { PATRONI_VERSION } from './patroni-config.ts'
import { ClusterError, findPrograms, hasPatroni, type Place, toolsOf } from './place.ts'

export function setUp(place: Place, report: Report) {
  const tools = toolsOf(place)
  if (!hasPatroni(place)) {
    report(`installing Patroni into ${tools} …`)
    mkdirSync(tools, { recursive: true })
    chmodSync(tools, 0o755)
    // The system's Python: another one may be in a home folder that the cluster's account cannot enter.
    run(existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3', ['-m', 'venv', tools])
    const packages = [`patroni[etcd3]==${PATRONI_VERSION}`, 'psycopg2-binary']
    const pip = ['install', '--quiet', '--disable-pip-version-check', ...packages]
    run(join(tools, 'bin/pip'), pip)
  }
  report(
    findPrograms(place).hasCitus
      ? 'everything is installed'
      : 'everything is installed except Citus, whose packages are at citusdata.com; without it, up --plain runs one pair',
  )
}

function run(command: string, args: readonly string[]) {
  const { status } = spawnSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'] })
  if (status !== 0) throw new ClusterError(`${command} ${args.join(' ')} failed; see above.`)
}
