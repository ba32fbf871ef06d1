// Owns what single connections show of the servers behind the addresses, for people who look for what is wrong.

import { readFileSync } from 'node:fs'
import pg from 'pg'
import { isRefusal } from './addresses.ts'
import { isElsewhere } from './encryption.ts'
import { nameOf, openProbeConnection, type Port, WrongMember } from './pool.ts'
import { openSession, type Session } from './session.ts'

/** A server and the role of the connection, as server-facts.sql describes them. */
export type ServerFacts = {
  readonly version: string
  readonly versionNumber: number
  /** Time of the server's clock, in milliseconds. */
  readonly clockMs: number
  readonly isSecondary: boolean
  readonly settings: Readonly<Record<string, string>>
  readonly sessions: number
  readonly idleInTransaction: number
  readonly prepared: number
  readonly isReplayPaused: boolean
  readonly idleSlots: readonly { readonly name: string; readonly bytes: number }[]
  readonly archive: {
    /** `off`, `on`, or `always` if secondaries archive, too. */
    readonly mode: string
    /** When a file of the log was archived at last, and when an attempt failed at last. */
    readonly succeededMs: number | null
    readonly failedMs: number | null
  }
  /** Age of the oldest transaction that is not frozen, in transactions. */
  readonly oldestTransaction: number
  readonly database: {
    readonly name: string
    readonly encoding: string
    /** -1 for none. */
    readonly connectionLimit: number
    readonly collation: string | null
    readonly actualCollation: string | null
  }
  readonly extensions: readonly {
    readonly name: string
    readonly version: string
    readonly available: string | null
  }[]
  readonly role: RoleFacts
}

type Tables = { readonly count: number; readonly some: readonly string[] | null }

export type RoleFacts = {
  readonly name: string
  readonly isSuperuser: boolean
  readonly canCreateRoles: boolean
  readonly canCreateDatabases: boolean
  readonly bypassesRowSecurity: boolean
  readonly canReplicate: boolean
  /** -1 for none. */
  readonly connectionLimit: number
  readonly passwordEndsMs: number | null
  readonly powers: readonly string[]
  readonly canCreateSchemas: boolean
  readonly creatable: readonly string[]
  readonly owned: Tables
  readonly changeable: Tables
  readonly truncatable: Tables
}

/** Facts, and the times of this machine's clock between which they were read. */
export type Sighting = { readonly facts: ServerFacts; readonly fromMs: number; readonly untilMs: number }

/** A node of Citus, as the node that was asked knows it. */
export type CitusNode = {
  readonly name: string
  readonly group: number
  readonly role: 'primary' | 'secondary'
  readonly isActive: boolean
  /** Undefined if Citus does not read or write it from where it was asked. */
  readonly seen: Sighting | { readonly error: string } | undefined
}

/** Why a server could not be examined, as the gateway would meet it. */
export type Refusal = {
  readonly kind: 'refused' | 'wrong-member' | 'unreachable'
  /** SQLSTATE, or the code of the operating system. */
  readonly code: string | undefined
  readonly message: string
}

export type Examined = {
  /** Host and port, without secrets. */
  readonly name: string
  /** False for a socket, and for an address of this machine. */
  readonly isRemote: boolean
  readonly isEncrypted: boolean
} & (
  | { readonly refusal: Refusal }
  | {
      readonly refusal?: never
      readonly server: Sighting
      /** None without Citus. */
      readonly nodes: readonly CitusNode[]
      /** Why the nodes could not be examined; undefined if they were. */
      readonly nodesError?: string
    }
)

const FACTS = readFileSync(new URL('server-facts.sql', import.meta.url), 'utf8')
/** Time limit of a connection like those of the gateway. */
const PROBE_TIMEOUT_MS = 3_000
const ENCRYPTED =
  'select coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false) as encrypted'
const NODES = `select nodename || ':' || nodeport as name, nodeid as id, groupid as "group", noderole::text as role,
  isactive as "isActive" from pg_dist_node order by groupid, nodename, nodeport`
const FACTS_OF_NODES = `select nodeid as id, success, result from run_command_on_all_nodes($1)`

/**
 * Examines the server at one address, in a session of its own.
 * @param port undefined for the owner's address, which may lead anywhere
 * @param isCoordinator true if the other nodes of Citus are examined from there
 */
export async function examineServer(
  url: string,
  port: Port | undefined,
  isCoordinator: boolean,
): Promise<Examined> {
  const { name, host } = placeOf(url)
  const address = { name, isRemote: isElsewhere(host) }
  let session: Session | undefined
  try {
    if (port) (await openProbeConnection(port, url, PROBE_TIMEOUT_MS)).close()
    session = await openSession(url, 'doctor')
    const [row] = await session.query<{ encrypted: boolean }>(ENCRYPTED)
    const server = await sight(async () => (await session!.query<{ json_build_object: string }>(FACTS))[0]!)
    const examined = { ...address, isEncrypted: row!.encrypted, server, nodes: [] }
    if (!isCoordinator || !server.facts.extensions.some((one) => one.name === 'citus')) return examined
    return await examineNodes(session).then(
      (nodes) => ({ ...examined, nodes }),
      (error: Error) => ({ ...examined, nodesError: error.message }),
    )
  } catch (error) {
    return { ...address, isEncrypted: false, refusal: refusalOf(error) }
  } finally {
    await session?.close().catch(() => {})
  }
}

/** Returns host and port, and their name, as the driver reads the URL. */
export function placeOf(url: string): {
  readonly name: string
  readonly host: string
  readonly port: number
} {
  const { host, port } = new pg.Client({ connectionString: url })
  return { name: nameOf(url), host, port }
}

async function sight(read: () => Promise<object>): Promise<Sighting> {
  const fromMs = Date.now()
  const [text] = Object.values(await read())
  return { facts: JSON.parse(text as string) as ServerFacts, fromMs, untilMs: Date.now() }
}

async function examineNodes(session: Session): Promise<readonly CitusNode[]> {
  type Node = Omit<CitusNode, 'seen'> & { readonly id: number }
  const nodes = await session.query<Node>(NODES)
  const fromMs = Date.now()
  const answers = await session.query<{ id: number; success: boolean; result: string }>(FACTS_OF_NODES, [
    FACTS,
  ])
  const untilMs = Date.now()
  return nodes.map(({ id, ...node }) => {
    const answer = answers.find((one) => one.id === id)
    if (!answer) return { ...node, seen: undefined }
    if (!answer.success) return { ...node, seen: { error: answer.result } }
    return { ...node, seen: { facts: JSON.parse(answer.result) as ServerFacts, fromMs, untilMs } }
  })
}

function refusalOf(error: unknown): Refusal {
  const { code, message } = error as Error & { code?: string }
  const kind = error instanceof WrongMember ? 'wrong-member' : isRefusal(error) ? 'refused' : 'unreachable'
  return { kind, code, message }
}
