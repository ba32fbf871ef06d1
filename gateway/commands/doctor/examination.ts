// Owns the examination by `tessera doctor`: looks at the addresses, their servers and roles, Tessera's own tables, the
// collections, certificates and this machine, and collects what the rules find. It changes nothing.

import { statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { type Config, isEmbedded, variableOf } from '../../config.ts'
import { splitUrls } from '../../database/addresses.ts'
import { readCertificate, readCertificateFile, readCertificateFiles } from '../../database/certificate.ts'
import type { Database } from '../../database/contract.ts'
import { openDatabase } from '../../database/database.ts'
import { mostConnections } from '../../database/endpoint.ts'
import { compareMigrations } from '../../database/migrate.ts'
import type { Port } from '../../database/pool.ts'
import {
  type CitusNode,
  type Examined,
  examineServer,
  placeOf,
  type Refusal,
  type ServerFacts,
} from '../../database/server-facts.ts'
import { openSession } from '../../database/session.ts'
import { hasRights } from '../../database/table-rights.ts'
import type { Emit, Event } from '../../events.ts'
import { type Catalog, openCatalog } from '../../features/collections/catalog.ts'
import { readStorage } from '../../features/collections/storage.ts'
import { functionsOf } from '../../features/filter/published.ts'
import { type Addresses, awaitDatabase } from '../lifecycle.ts'
import { judgeStorage } from './collection-rules.ts'
import { ending, type Finding, inSql, judgeEnd, SEVERITIES, type Unexamined } from './finding.ts'
import { judgeRole, type Purpose } from './role-rules.ts'
import { judgeConnections, judgeServer } from './server-rules.ts'
import { tryCollections } from './trial-reads.ts'

export type Report = {
  readonly findings: readonly Finding[]
  readonly unexamined: readonly Unexamined[]
  readonly examined: { readonly servers: number; readonly collections: number }
}

/** An address of the settings, and what it is for. */
type Address = { readonly url: string; readonly setting: keyof Config; readonly purpose: Purpose }

/** A secondary that is this far behind shows maps of some seconds ago. */
const LAG_BYTES = 16 * 1_048_576
/** Free space that a checkpoint, a sort or an import needs at least. */
const FREE_BYTES = 1_073_741_824
const FREE_SHARE = 0.1

/** Tessera's own tables that roles need besides tessera.collection, whose grant the catalog misses by itself. */
const NEEDED = [
  { table: 'token_key', purpose: 'read', rights: ['select'], without: 'changes return no Consistency-Token' },
  { table: 'api_key', purpose: 'write', rights: ['select'], without: 'API keys cannot be checked' },
  {
    table: 'moved_feature',
    purpose: 'write',
    rights: ['select', 'insert', 'update', 'delete'],
    without: 'collections by cell cannot be changed',
  },
  {
    table: 'change_key',
    purpose: 'write',
    rights: ['select', 'insert', 'update', 'delete'],
    without: 'idempotency keys are rejected',
  },
  {
    table: 'audit',
    purpose: 'write',
    rights: ['select', 'insert'],
    without: 'changes of collections with an audit fail',
  },
] as const

export async function examine(config: Config, addresses: Addresses): Promise<Report> {
  const findings: Finding[] = []
  const unexamined: Unexamined[] = []
  const list = addressesOf(config, addresses)
  const examined = await Promise.all(
    list.map(async (address) => ({
      ...address,
      ...(await examineServer(address.url, portOf(address), address.setting !== 'workerReadUrl').catch(
        (error: Error) => ({
          // The driver reads the files that a URL names before it connects.
          name: variableOf(address.setting),
          isRemote: false,
          isEncrypted: false,
          refusal: { kind: 'refused', code: undefined, message: error.message } as Refusal,
        }),
      )),
    })),
  )
  findings.push(...judgeServers(config, examined))
  findings.push(...judgeRoles(examined))
  const certificates = await examineCertificates(config, list)
  findings.push(...certificates.findings, ...(await examineDisks(config)))
  unexamined.push(...certificates.unexamined)
  if (!isEmbedded(config) && examined.some(({ isRemote }) => isRemote))
    unexamined.push({ what: 'disks of the database servers', why: 'SQL does not show their free space' })

  const tables = await examineOwnTables(addresses, examined)
  findings.push(...tables.findings)
  unexamined.push(...tables.unexamined)

  const isReadable = examined.some(({ purpose, refusal }) => purpose !== 'owner' && !refusal)
  const collections = isReadable
    ? await examineCollections(config, addresses)
    : { findings: [], unexamined: [{ what: 'collections', why: 'no address answers' }], count: 0 }
  findings.push(...collections.findings)
  unexamined.push(...collections.unexamined)
  return {
    findings: findings.toSorted(bySeverity),
    unexamined,
    examined: {
      servers: new Set(examined.flatMap((one) => (one.refusal ? [] : [one.name, ...namesOf(one.nodes)])))
        .size,
      collections: collections.count,
    },
  }
}

const bySeverity = (one: Finding, other: Finding) =>
  SEVERITIES.indexOf(one.severity) - SEVERITIES.indexOf(other.severity)

const namesOf = (nodes: readonly CitusNode[]) =>
  nodes.flatMap(({ name, seen }) => (seen && 'facts' in seen ? [name] : []))

function addressesOf(config: Config, { readUrl, writeUrl, ownerUrl }: Addresses): readonly Address[] {
  const each = (urls: string | undefined, setting: keyof Config, purpose: Purpose) =>
    (urls ? splitUrls(urls) : []).map((url): Address => ({ url, setting, purpose }))
  return [
    ...each(readUrl, 'readUrl', 'read'),
    ...each(config.workerReadUrl, 'workerReadUrl', 'read'),
    ...each(writeUrl, 'writeUrl', 'write'),
    // Without its own setting, the owner's address is that of the write port.
    ...(ownerUrl === writeUrl ? [] : each(ownerUrl, 'ownerUrl', 'owner')),
  ]
}

const portOf = ({ purpose }: Address): Port | undefined => (purpose === 'owner' ? undefined : purpose)

type ExaminedAddress = Address & Examined

function judgeServers(config: Config, examined: readonly ExaminedAddress[]): readonly Finding[] {
  const found: Finding[] = []
  // Several addresses may lead to one server, whose faults are told once.
  const told = new Set<string>()
  const tell = (about: string, findings: readonly Finding[]) => {
    for (const finding of findings) {
      const name = `${about} ${finding.check} ${finding.finding}`
      if (!told.has(name)) found.push(finding)
      told.add(name)
    }
  }
  // A database that is thrown away at the end has nothing to lose.
  const isThrownAway = isEmbedded(config) && config.ephemeral === true
  const isOfInterest = ({ check }: Finding) => !(isThrownAway && check === 'durability')
  for (const address of examined) {
    const { name, isRemote, isEncrypted, setting, purpose } = address
    const subject = `${variableOf(setting)} (${name})`
    if (address.refusal) {
      found.push(judgeRefusal(subject, address.refusal))
      continue
    }
    const { server, nodes, nodesError } = address
    if (nodesError !== undefined)
      found.push({
        severity: 'fault',
        check: 'citus-nodes',
        subject,
        finding: `Citus does not reach its nodes from there: ${ending(nodesError)}`,
        remedy: 'Look which nodes run; npm run cluster -- status shows Patroni and HAProxy as well.',
      })
    tell(name, judgeServer(name, server).filter(isOfInterest))
    if (purpose !== 'owner')
      tell(name, judgeConnections(name, server.facts, connectionsOf(config, name, examined)))
    if (isRemote && !isEncrypted)
      found.push({
        severity: 'warning',
        check: 'not-encrypted',
        subject,
        finding: 'The connection is not encrypted: passwords and data can be read on the way.',
        remedy:
          'Let the server offer TLS (ssl = on), and add sslmode=verify-full to the URL, so that its certificate is checked.',
      })
    for (const node of nodes) tell(node.name, judgeNode(node, server.facts))
    tell('citus', judgeGroups(nodes))
  }
  return found
}

/** Returns how many connections one gateway opens at most at a server, to which several settings may lead. */
const connectionsOf = ({ processes, poolSize }: Config, name: string, examined: readonly ExaminedAddress[]) =>
  examined
    .filter((one) => one.name === name)
    .flatMap((one) => portOf(one) ?? [])
    .reduce((sum, port) => sum + processes * mostConnections(port, poolSize), 0)

/** Remedies for what a server or the system answers to a connection, by SQLSTATE or code. */
const REMEDIES: Readonly<Record<string, string>> = {
  '28P01': 'Correct the password in the URL, or: alter role … password …;',
  '28000': 'Add a line for this role, database and address to pg_hba.conf, and reload.',
  '3D000': 'Correct the name of the database in the URL, or: create database …;',
  '42704': 'Correct the options in the URL.',
  '42501':
    'Grant what the message names; for Citus: grant set on parameter citus.use_secondary_nodes to the role.',
  '53300': 'Raise max_connections, or lower TESSERA_POOL_SIZE.',
  '57P03': 'Wait until the server has started; see its log if that takes long.',
  ECONNREFUSED: 'Start the server, or correct host and port; see listen_addresses of the server.',
  ENOTFOUND: 'Correct the name of the host, or its DNS.',
  ENOENT: 'Start the server, or correct the path.',
  ETIMEDOUT: 'Look for a firewall between this machine and the server.',
  EHOSTUNREACH: 'Look at the network between this machine and the server.',
  SELF_SIGNED_CERT_IN_CHAIN: 'Name the certificate of the authority with sslrootcert in the URL.',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'Name the certificate of the server with sslrootcert in the URL.',
  CERT_HAS_EXPIRED: 'Renew the certificate of the server.',
  ERR_TLS_CERT_ALTNAME_INVALID: 'Use a name that the certificate has, or a certificate with this name.',
}

function judgeRefusal(subject: string, { kind, code, message }: Refusal): Finding {
  const what =
    kind === 'wrong-member'
      ? 'It leads to a server that the gateway does not use there'
      : kind === 'refused'
        ? 'The server refuses the connection'
        : 'It does not answer'
  return {
    severity: 'fault',
    check:
      kind === 'wrong-member' ? 'wrong-member' : kind === 'refused' ? 'connection-refused' : 'unreachable',
    subject,
    finding: `${what}: ${ending(message)}`,
    remedy:
      REMEDIES[code ?? ''] ??
      (kind === 'wrong-member'
        ? 'Correct the URL as the message says.'
        : 'Look whether the server runs and can be reached from here, and at its log.'),
  }
}

function judgeNode(node: CitusNode, asked: ServerFacts): readonly Finding[] {
  const { name, group, role, isActive, seen } = node
  const about = { subject: name, check: 'citus-node' } as const
  if (!isActive && role === 'primary')
    return [
      {
        ...about,
        severity: 'fault',
        finding: `Citus does not use this node of group ${group}: it is not active.`,
        remedy: 'select citus_activate_node(…); on the coordinator, once it runs.',
      },
    ]
  if (!seen) return []
  if ('error' in seen)
    return [
      {
        ...about,
        // Without its secondary a group still serves everything.
        severity: role === 'primary' ? 'fault' : 'warning',
        finding: `The ${role} of node group ${group} does not answer its coordinator: ${ending(seen.error)}`,
        remedy: 'Look whether it runs; npm run cluster -- status shows Patroni and HAProxy as well.',
      },
    ]
  const version = (facts: ServerFacts, extension: string) =>
    facts.extensions.find((one) => one.name === extension)?.version
  const differing = ['citus', 'postgis'].filter(
    (extension) => version(seen.facts, extension) !== version(asked, extension),
  )
  const others: Finding[] = differing.map((extension) => ({
    ...about,
    severity: 'fault',
    check: 'node-versions',
    finding: `It has ${extension} ${version(seen.facts, extension) ?? 'not at all'}, and the coordinator ${version(asked, extension)}.`,
    remedy: `Install the same packages on all nodes, then: alter extension ${extension} update;`,
  }))
  if (seen.facts.versionNumber !== asked.versionNumber)
    others.push({
      ...about,
      severity: 'warning',
      check: 'node-versions',
      finding: `It runs PostgreSQL ${seen.facts.version}, and the coordinator ${asked.version}.`,
      remedy: 'Install the same release on all nodes, secondaries first.',
    })
  return [...judgeServer(name, seen), ...others]
}

/** Returns the groups that lack the secondary which others have. */
function judgeGroups(nodes: readonly CitusNode[]): readonly Finding[] {
  const withSecondary = new Set(nodes.filter(({ role }) => role === 'secondary').map(({ group }) => group))
  if (withSecondary.size === 0) return []
  return [...new Set(nodes.map(({ group }) => group))]
    .filter((group) => !withSecondary.has(group))
    .map((group) => ({
      severity: 'warning',
      check: 'no-secondary',
      subject: `node group ${group}`,
      finding: 'It has no secondary: no member could replace its primary now.',
      remedy: 'Bring a secondary back; npm run cluster -- status shows what holds it up.',
    }))
}

function judgeRoles(examined: readonly ExaminedAddress[]): readonly Finding[] {
  const roles = new Map<string, { purposes: Set<Purpose>; facts: ServerFacts; nowMs: number }>()
  for (const one of examined)
    if (!one.refusal) {
      const { facts, untilMs: nowMs } = one.server
      const known = roles.get(facts.role.name)
      if (known) known.purposes.add(one.purpose)
      else roles.set(facts.role.name, { purposes: new Set([one.purpose]), facts, nowMs })
    }
  const hasOwner = examined.some(({ purpose }) => purpose === 'owner')
  return [...roles.values()].flatMap(({ purposes, facts, nowMs }) => {
    // A role of several purposes needs what the strongest of them needs.
    const purpose = (['owner', 'write', 'read'] as const).find((one) => purposes.has(one))!
    const shared: Finding[] =
      purposes.size > 1 && purposes.has('read')
        ? [
            {
              severity: 'warning',
              check: 'shared-role',
              subject: `role ${facts.role.name}`,
              finding: 'The same role reads and changes: a fault in a read could change data.',
              remedy: 'Name a role that only reads in TESSERA_READ_URL; sql/bootstrap/roles.sql creates one.',
            },
          ]
        : []
    return [...shared, ...judgeRole(purpose, facts.role, !hasOwner, nowMs)]
  })
}

async function examineCertificates(config: Config, addresses: readonly Address[]) {
  const findings: Finding[] = []
  const unexamined: Unexamined[] = []
  const seen = new Set<string>()
  const once = (name: string) => !seen.has(name) && seen.add(name)
  const look = async (
    subject: string,
    host: string,
    port: number,
    protocol: 'postgresql' | 'https',
  ): Promise<void> => {
    const certificate = await readCertificate(host, port, protocol)
    if (certificate)
      findings.push(
        ...judgeEnd(
          'certificate-end',
          subject,
          `The certificate of ${certificate.subject}`,
          certificate.endsMs,
          'Renew it, and reload the server.',
          Date.now(),
        ),
      )
  }
  const skip = (what: string) => (error: Error) => {
    unexamined.push({ what, why: error.message })
  }
  const work: Promise<void>[] = []
  for (const { url, setting } of addresses) {
    work.push(
      readCertificateFiles(url)
        .then((files) => {
          for (const { file, subject, endsMs } of files)
            if (once(file))
              findings.push(
                ...judgeEnd(
                  'certificate-end',
                  `${variableOf(setting)} (${file})`,
                  `The certificate of ${subject}`,
                  endsMs,
                  'Renew it, and restart the gateways.',
                  Date.now(),
                ),
              )
        })
        .catch(skip(`certificates that ${variableOf(setting)} names`)),
    )
    const place = placeIn(url)
    if (place && !place.host.startsWith('/') && once(place.name))
      work.push(
        look(place.name, place.host, place.port, 'postgresql').catch(
          skip(`the certificate of ${place.name}`),
        ),
      )
  }
  const { tlsCertificate: file } = config
  if (file !== undefined)
    work.push(
      readCertificateFile(file)
        .then(({ subject, endsMs }) => {
          findings.push(
            ...judgeEnd(
              'certificate-end',
              `${variableOf('tlsCertificate')} (${file})`,
              `The certificate of ${subject}`,
              endsMs,
              'Renew it: the gateways use it as soon as the files have it and its key.',
              Date.now(),
            ),
          )
        })
        .catch(skip(`the certificate that ${variableOf('tlsCertificate')} names`)),
    )
  if (config.publicUrl?.startsWith('https:')) {
    const { hostname, port } = new URL(config.publicUrl)
    work.push(
      look(config.publicUrl, hostname, Number(port || 443), 'https').catch(
        skip(`the certificate of ${config.publicUrl}`),
      ),
    )
  }
  await Promise.all(work)
  return { findings, unexamined }
}

/** Returns the place of an address; undefined if the driver cannot read its URL, which is found elsewhere. */
function placeIn(url: string) {
  try {
    return placeOf(url)
  } catch {
    return undefined
  }
}

/** Examines the folders of this machine that fill: that of the embedded database, and that of imports. */
async function examineDisks(config: Config): Promise<readonly Finding[]> {
  const folders = [
    ...(isEmbedded(config) && !config.ephemeral
      ? [{ folder: config.data, what: 'the embedded database' }]
      : []),
    { folder: tmpdir(), what: 'imports and other temporary files' },
  ]
  const found = await Promise.all(
    folders.map(async ({ folder, what }): Promise<readonly Finding[]> => {
      const { bavail, blocks, bsize } = await statfs(folder)
      const free = bavail * bsize
      if (free >= FREE_BYTES && bavail >= blocks * FREE_SHARE) return []
      return [
        {
          severity: free < FREE_BYTES ? 'fault' : 'warning',
          check: 'disk',
          subject: folder,
          finding: `The disk for ${what} has ${(free / 1e9).toFixed(1)} GB left, ${Math.round((bavail / blocks) * 100)} % of it.`,
          remedy: 'Make room, or use a larger disk.',
        },
      ]
    }),
  )
  return found.flat()
}

/** Examines Tessera's own tables: whether they are those of this version, and what the roles may do with them. */
async function examineOwnTables({ ownerUrl }: Addresses, examined: readonly ExaminedAddress[]) {
  const findings: Finding[] = []
  const unexamined: Unexamined[] = []
  const what = "Tessera's own tables"
  if (!ownerUrl) return { findings, unexamined }
  let isThere = false
  try {
    await using session = closing(await openSession(ownerUrl, 'doctor'))
    const { missing, changed, unknown } = await compareMigrations(session)
    isThere = missing.length === 0
    const add = (severity: Finding['severity'], finding: string, remedy: string) =>
      findings.push({ severity, check: 'migrations', subject: 'schema tessera', finding, remedy })
    if (missing.length > 0)
      add('warning', `These migrations were not applied: ${missing.join(', ')}.`, 'npx tessera migrate')
    if (changed.length > 0)
      add(
        'fault',
        `These migrations have changed since they were applied: ${changed.join(', ')}.`,
        'Install the release of Tessera again: its files are not those that were released.',
      )
    if (unknown.length > 0)
      add(
        'fault',
        `A newer Tessera has applied ${unknown.join(', ')}.`,
        'Run the same version of Tessera everywhere.',
      )
  } catch (error) {
    unexamined.push({ what, why: (error as Error).message })
  }
  if (!isThere) return { findings, unexamined }
  for (const purpose of ['read', 'write'] as const) {
    const address = examined.find((one) => one.purpose === purpose && !one.refusal)
    if (!address || address.refusal) continue
    const role = address.server.facts.role.name
    await using session = closing(await openSession(address.url, 'doctor'))
    for (const { table, rights, without } of NEEDED.filter((one) => one.purpose === purpose)) {
      const { text, values } = hasRights(table, rights)
      const [row] = await session.query<{ exists: boolean }>(text, values)
      if (row!.exists) continue
      findings.push({
        severity: 'warning',
        check: 'grant-missing',
        subject: `role ${role}`,
        finding: `It lacks ${rights.join(', ')} on tessera.${table}: ${without}.`,
        remedy: `grant usage on schema tessera to ${inSql(role)}; grant ${rights.join(', ')} on tessera.${table} to ${inSql(role)};`,
      })
    }
  }
  return { findings, unexamined }
}

const closing = <T extends { close(): Promise<void> }>(session: T) =>
  Object.assign(session, { [Symbol.asyncDispose]: () => session.close() })

/** Examines the collections as a gateway with these settings serves them, and how far secondaries are behind. */
async function examineCollections(config: Config, { readUrl, writeUrl }: Addresses) {
  const findings: Finding[] = []
  const unexamined: Unexamined[] = []
  const emit: Emit = (event) => findings.push(...judgeEvent(event))
  const database = openDatabase({ ...config, readUrl, writeUrl, emit })
  let catalog: Catalog | undefined
  let count = 0
  try {
    // An address that answers is found, even if others do not.
    catalog = await awaitDatabase(config, emit, () => openCatalog({ database, ...config, emit }))
    functionsOf(catalog.routines, emit)
    const collections = catalog.list()
    count = collections.length
    const storage = await readStorage(database, collections)
    for (const [collection, stored] of storage) findings.push(...judgeStorage(collection, stored))
    const tried = await tryCollections(database, collections, emit)
    findings.push(...tried.findings, ...(await judgeLag(database)))
    unexamined.push(...tried.unexamined)
  } catch (error) {
    // The addresses have been examined: they show why.
    unexamined.push({ what: 'collections', why: (error as Error).message })
  } finally {
    catalog?.close()
    await database.close()
  }
  return { findings, unexamined, count }
}

/** Returns what an event of the gateway's own discovery means. */
function judgeEvent(event: Event): readonly Finding[] {
  switch (event.type) {
    case 'grant-missing':
      // That PostGIS is missing was found at the server.
      if (event.grant === 'the extension postgis') return []
      return [
        {
          severity: event.effect.startsWith('collections have no titles') ? 'warning' : 'fault',
          check: 'grant-missing',
          subject: `role ${event.role}`,
          finding: `It lacks ${event.grant}: ${event.effect}.`,
          remedy: `grant ${event.grant} to ${inSql(event.role)};`,
        },
      ]
    case 'relation-locked':
      return [
        {
          severity: 'warning',
          check: 'relation-locked',
          subject: event.relation,
          finding: 'Somebody locks it against readers, so that it cannot be served.',
          remedy:
            'See pg_locks for the session that holds AccessExclusiveLock on it, and end its transaction.',
        },
      ]
    case 'function-unpublished':
      return [
        {
          severity: 'warning',
          check: 'function-unpublished',
          subject: event.function,
          finding: `It is marked for filters, and they cannot call it: ${event.reason}.`,
          remedy: 'Change the function or its grants, or remove the mark from its comment.',
        },
      ]
    default:
      return []
  }
}

async function judgeLag(database: Database): Promise<readonly Finding[]> {
  if (!database.isReplicated) return []
  const lag = await database.lag()
  return [...lag]
    .filter(([, bytes]) => bytes > LAG_BYTES)
    .map(([group, bytes]) => ({
      severity: 'warning',
      check: 'lag',
      subject: `node group ${group}`,
      finding: `Its secondary is ${Math.round(bytes / 1_048_576)} MiB behind its primary.`,
      remedy:
        'Look for long queries on the secondary, for its disk, and for the network; reads with a token go to the primary meanwhile.',
    }))
}
