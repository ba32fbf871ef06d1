// Owns what the cluster's containers need from one another, as `node cluster/containers.ts COMMAND` within the image:
// `configure` writes it, `prepare` waits for the members and prepares their database, `status` shows the members, and
// `promote` gives some of them up.

import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  type CertificateFiles,
  type Credentials,
  certificateFilesIn,
  openCredentials,
  renderPassfile,
} from './credentials.ts'
import { GATEWAY_URLS, type GatewayUrl, gatewayUrl, OWNER_URL, urlFileOf } from './database-urls.ts'
import { renderFencer } from './etcd-config.ts'
import { renderBalancer, renderMemberProxy } from './haproxy-config.ts'
import { untilMembersRun } from './launcher.ts'
import { askMember } from './patroni-client.ts'
import { filesOf } from './patroni-config.ts'
import { ClusterError } from './place.ts'
import { prepareDatabase } from './prepare.ts'
import { promote } from './promote.ts'
import { readStatus, renderStatus } from './status.ts'
import { DEFAULT_SIZE, LOOPBACK, makeTopology } from './topology.ts'

export const containerTopology = makeTopology(DEFAULT_SIZE, 'containers')

/** Folders of the volumes, one for each kind of service that reads them. */
export const CONFIG_FOLDERS = {
  node: '/config/node',
  store: '/config/store',
  fencer: '/config/fencer',
  proxy: '/config/proxy',
  gateway: '/config/gateway',
  manage: '/config/manage',
}
/** Ids of the users that read them: those of PostgreSQL, etcd, Node and HAProxy in their images. */
const READERS = { node: 999, store: 0, fencer: 1000, proxy: 99, gateway: 1000, manage: 1000 }
/** Folder of a member's data. */
export const MEMBER_FOLDER = '/var/lib/tessera'

type Folder = keyof typeof CONFIG_FOLDERS

export const certificatesIn = (folder: Folder): CertificateFiles => certificateFilesIn(CONFIG_FOLDERS[folder])

function write(folder: Folder, name: string, text: string) {
  const file = join(CONFIG_FOLDERS[folder], name)
  writeFileSync(file, text, { mode: 0o600 })
  chmodSync(file, 0o600)
  chownSync(file, READERS[folder], READERS[folder])
}

/** Writes every configuration. Idempotent: existing secrets stay, everything else is written again. */
async function configure() {
  for (const folder of Object.keys(CONFIG_FOLDERS) as Folder[]) {
    mkdirSync(CONFIG_FOLDERS[folder], { recursive: true })
    chmodSync(CONFIG_FOLDERS[folder], 0o700)
    chownSync(CONFIG_FOLDERS[folder], READERS[folder], READERS[folder])
  }
  const credentials = await openSecrets()
  for (const file of [credentials.authorityFile, credentials.certificateFile, credentials.keyFile])
    chownSync(file, READERS.node, READERS.node)
  write('node', 'pgpass', renderPassfile(credentials))
  write('node', 'ways.cfg', renderMemberProxy(containerTopology, '/tmp'))
  const place = { folder: MEMBER_FOLDER, configFolder: CONFIG_FOLDERS.node, postgresBinaries: undefined }
  for (const member of containerTopology.members)
    for (const [name, text] of filesOf(containerTopology, member, credentials, place))
      write('node', name, text)
  for (const proxy of containerTopology.proxies)
    write('proxy', `${proxy.name}.cfg`, renderBalancer(containerTopology, proxy, '/tmp'))
  for (const folder of ['store', 'fencer'] as const)
    for (const from of [credentials.authorityFile, credentials.certificateFile, credentials.keyFile])
      write(folder, basename(from), readFileSync(from, 'utf8'))
  for (const { name } of containerTopology.fencers)
    write('fencer', `${name}.json`, renderFencer(containerTopology, name, certificatesIn('fencer')))
  writeUrls('gateway', GATEWAY_URLS, credentials)
  writeUrls('manage', [OWNER_URL], credentials)
}

function writeUrls(folder: Folder, names: readonly GatewayUrl[], credentials: Credentials) {
  const { authorityFile } = certificatesIn(folder)
  write(folder, basename(authorityFile), readFileSync(credentials.authorityFile, 'utf8'))
  for (const name of names)
    write(folder, urlFileOf(name), gatewayUrl(containerTopology, { ...credentials, authorityFile }, name))
}

const openSecrets = (): Promise<Credentials> =>
  openCredentials(CONFIG_FOLDERS.node, [
    ...[...containerTopology.proxies, ...containerTopology.store].map(({ host }) => host),
    'localhost',
    LOOPBACK,
  ])

/** Prepares the database. On a failure, reports the members that are not up: Compose only reports the failure. */
async function prepare() {
  try {
    const members = await untilMembersRun(containerTopology, say)
    await prepareDatabase(containerTopology, await openSecrets(), members, say)
    say(`the database is prepared; a gateway serves it at ${process.env.PUBLISHED_AT}`)
  } catch (error) {
    say((error as Error).message)
    for (const member of containerTopology.members) {
      const state = await askMember(member)
      if (state?.role === 'primary' ? state.state === 'running' : state?.isStreaming) continue
      const text = state ? `is ${state.role}, ${state.state}` : 'does not answer'
      say(`${member.name} ${text}; see docker compose logs ${member.name}`)
    }
    process.exitCode = 1
  }
}

/** Reports a failure that a person has to put right, without its stack. */
function tell(error: unknown) {
  if (!(error instanceof ClusterError)) throw error
  say(error.message)
  process.exitCode = 1
}

const say = (line: string) => process.stdout.write(`${line}\n`)

if (import.meta.main) {
  const [command] = process.argv.slice(2)
  switch (command) {
    case 'configure':
      await configure()
      break
    case 'prepare':
      await prepare()
      break
    case 'status': {
      const status = await readStatus(containerTopology, await openSecrets())
      say(process.argv.includes('--json') ? JSON.stringify(status) : renderStatus(status))
      process.exitCode = status.faults.length > 0 ? 1 : 0
      break
    }
    case 'promote': {
      const { values, positionals } = parseArgs({
        options: { 'accept-loss': { type: 'boolean', default: false } },
        allowPositionals: true,
      })
      const [, name = ''] = positionals
      const options = { topology: containerTopology, credentials: await openSecrets() }
      await promote(name, { ...options, isLossAccepted: values['accept-loss'], report: say }).catch(tell)
      break
    }
    default:
      throw new Error('The command must be configure, prepare, status or promote NAME.')
  }
}
