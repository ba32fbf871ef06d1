// Owns the set-up that npm runs before a script: Node packages, system packages on Debian and Ubuntu, and Patroni.
// Plain JavaScript without dependencies: it runs on whatever Node a fresh machine has.

import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { accessSync, constants, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const purpose = process.argv[2] ?? 'start'
const folder = fileURLToPath(new URL('.', import.meta.url))
const say = (text) => process.stderr.write(`${text}\n`)

installNodePackages()
installSystemPackages()
if (['test', 'scenarios'].includes(purpose)) installPatroni()

/** Runs npm ci once per lockfile: a stamp in node_modules holds the hash of the lockfile that was installed. */
function installNodePackages() {
  const digest = createHash('sha256')
    .update(readFileSync(join(folder, 'package-lock.json')))
    .digest('hex')
  const stamp = join(folder, 'node_modules', '.tessera-setup')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return
  say('Setting up: installing the Node packages of package-lock.json (npm ci) …')
  // Runs the npm on PATH, not npm_execpath, the npm that runs this script.
  const result = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: folder,
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32',
  })
  if (result.status !== 0) fail('npm ci failed; see above.')
  writeFileSync(stamp, digest)
}

/** Installs Patroni with the cluster's own set-up, which runs on the Node that npm ci has installed. */
function installPatroni() {
  const node = join(folder, 'node_modules', '.bin', 'node')
  const result = spawnSync(node, [join(folder, 'cluster', 'main.ts'), 'setup'], { stdio: ['ignore', 2, 2] })
  if (result.status === 0) return
  if (purpose !== 'test') fail('The cluster cannot be set up; see above.')
  // The tests of the cluster skip themselves and report why.
  say('The cluster cannot be set up; see above. Its tests will be skipped.')
}

function installSystemPackages() {
  const missing = findMissing()
  if (missing.length === 0) return
  const names = missing.map(({ what }) => what).join(', ')
  const packages = missing.flatMap(({ debian }) => debian())
  const sudo = process.getuid?.() === 0 ? [] : hasProgram('sudo') ? ['sudo'] : undefined
  if (!hasProgram('apt-get') || !sudo) {
    fail(
      `Missing: ${names}.\n` +
        '  Debian, Ubuntu: apt-get install postgresql postgresql-15-postgis-3 (or a newer number)\n' +
        '  Fedora, RHEL:   dnf install postgresql-server postgis\n' +
        '  macOS:          brew install postgis\n' +
        '  Containers:     docker compose -f docker-compose.single.yml up (needs nothing else)\n' +
        (['cluster', 'scenarios'].includes(purpose)
          ? 'and etcd, HAProxy, pgBackRest, tini, Python with venv, OpenSSL from the same places.'
          : 'Or name a PostGIS that you have in TESSERA_WRITE_URL.'),
    )
  }
  say(`Setting up: ${names} missing; installing with apt-get: ${packages.join(' ')} …`)
  const root = (program, ...args) => {
    const [first, ...rest] = [...sudo, program, ...args]
    const result = spawnSync(first, rest, {
      stdio: ['inherit', 2, 2],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    })
    if (result.status !== 0) throw new Error(`${[first, ...rest].join(' ')} failed; see above.`)
  }
  // Debian's package would create and start a server of its own; Tessera's server is private to its data folder.
  const noServer = '/etc/postgresql-common/createcluster.d/tessera.conf'
  // Keeps the servers of other packages (etcd, HAProxy) from starting too: Tessera starts its own when asked to.
  const policy = '/usr/sbin/policy-rc.d'
  const isFree = !existsSync(policy)
  const isNew =
    packages.some((name) => name.startsWith('postgresql')) && !existsSync('/etc/postgresql-common')
  // Ctrl-C ends apt-get but not this process, which still has to remove these two files.
  process.on('SIGINT', () => {})
  try {
    if (isFree) root('sh', '-c', `printf '#!/bin/sh\\nexit 101\\n' > ${policy} && chmod +x ${policy}`)
    if (isNew) {
      root('apt-get', 'install', '-y', '-qq', '--no-install-recommends', 'postgresql-common')
      root('mkdir', '-p', '/etc/postgresql-common/createcluster.d')
      root('sh', '-c', `echo 'create_main_cluster = false' > ${noServer}`)
    }
    root('apt-get', 'install', '-y', '-qq', '--no-install-recommends', ...packages)
  } catch (error) {
    process.exitCode = 1
    say(error.message)
  } finally {
    if (isNew) root('rm', '-f', noServer)
    if (isFree) root('rm', '-f', policy)
  }
  if (process.exitCode) process.exit()
}

/** Returns what this purpose needs and the machine lacks, each with the Debian packages that provide it. */
function findMissing() {
  const needs = [
    {
      what: 'PostgreSQL ≥ 15 with PostGIS',
      isThere: hasPostgis,
      debian: () => postgisPackages(),
      for: ['start', 'test', 'bench', 'cluster', 'scenarios'],
    },
    {
      what: 'GDAL (ogrinfo), the client that tests read with',
      isThere: () => hasProgram('ogrinfo'),
      debian: () => ['gdal-bin'],
      for: ['test'],
    },
    {
      what: 'Chromium, the browser that tests look at pages with',
      isThere: () => hasProgram('chromium') || hasProgram('google-chrome'),
      debian: () => ['chromium'],
      for: ['test'],
    },
    {
      what: 'etcd, HAProxy, tini and Python, which the cluster runs on',
      isThere: () => ['etcd', 'haproxy', 'openssl', 'tini'].every(hasProgram) && hasVirtualEnvironments(),
      debian: () => ['etcd-server', 'haproxy', 'openssl', 'python3-venv', 'tini'],
      for: ['test', 'cluster', 'scenarios'],
    },
    {
      what: 'pgBackRest, which makes backups',
      isThere: () => hasProgram('pgbackrest'),
      debian: () => ['pgbackrest'],
      for: ['test', 'cluster', ...(process.env.TESSERA_BACKUP_TO ? ['start'] : [])],
    },
    {
      what: 'nginx, whose example is tried in front of a gateway',
      isThere: () => hasProgram('nginx'),
      debian: () => ['nginx'],
      for: ['test'],
    },
    {
      what: 'wrk, which loads the benchmark',
      isThere: () => hasProgram('wrk'),
      debian: () => ['wrk'],
      for: ['bench', 'test'],
    },
  ]
  const missing = needs.filter((need) => need.for.includes(purpose) && !need.isThere())
  return missing
}

function hasPostgis() {
  const { TESSERA_READ_URL, TESSERA_WRITE_URL, TESSERA_PG_BIN, PG_CONFIG } = process.env
  if (purpose === 'start' && (TESSERA_READ_URL || TESSERA_WRITE_URL)) return true
  // Set by the user: the gateway checks it and reports what is wrong with it.
  if (TESSERA_PG_BIN || PG_CONFIG) return true
  const candidates = ['/usr/lib/postgresql', '/opt/homebrew/opt', '/usr/local/opt'].flatMap((place) =>
    list(place).map((name) => join(place, name, 'bin')),
  )
  candidates.push(
    ...list('/usr')
      .filter((name) => name.startsWith('pgsql-'))
      .map((name) => join('/usr', name, 'bin')),
  )
  candidates.push(...(process.env.PATH ?? '').split(':'))
  return candidates.some((bin) => {
    if (!existsSync(join(bin, 'postgres')) || !existsSync(join(bin, 'pg_config'))) return false
    try {
      const ask = (option) => execFileSync(join(bin, 'pg_config'), [option], { encoding: 'utf8' }).trim()
      const major = Number(/(\d+)/.exec(ask('--version'))?.[1])
      return major >= 15 && existsSync(join(ask('--sharedir'), 'extension', 'postgis.control'))
    } catch {
      return false
    }
  })
}

/** Returns the packages of the newest PostgreSQL that the distribution has with PostGIS. */
function postgisPackages() {
  const search = () => {
    const { stdout } = spawnSync('apt-cache', ['search', '--names-only', '^postgresql-[0-9]+-postgis-3$'], {
      encoding: 'utf8',
    })
    return [...(stdout ?? '').matchAll(/^postgresql-(\d+)-postgis-3 /gm)].map(([, major]) => Number(major))
  }
  let majors = search()
  if (majors.length === 0) {
    say('Setting up: reading the package lists (apt-get update) …')
    spawnSync(
      process.getuid?.() === 0 ? 'apt-get' : 'sudo',
      process.getuid?.() === 0 ? ['update', '-qq'] : ['apt-get', 'update', '-qq'],
      { stdio: ['inherit', 2, 2] },
    )
    majors = search()
  }
  const newest = Math.max(0, ...majors)
  if (newest < 15)
    fail(
      'This distribution has no PostgreSQL ≥ 15 with PostGIS; use docker compose -f docker-compose.single.yml up instead.',
    )
  return [`postgresql-${newest}`, `postgresql-${newest}-postgis-3`]
}

function list(place) {
  try {
    return readdirSync(place)
  } catch {
    return []
  }
}

function hasVirtualEnvironments() {
  return spawnSync('python3', ['-c', 'import venv, ensurepip'], { stdio: 'ignore' }).status === 0
}

/** Looks in /usr/sbin too: it holds system programs, and a user's PATH may lack it. */
function hasProgram(name) {
  return `${process.env.PATH ?? ''}:/usr/sbin`.split(':').some((place) => {
    try {
      accessSync(join(place, name), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

function fail(text) {
  say(text)
  process.exit(1)
}
