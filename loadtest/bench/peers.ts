// Owns `npm run bench -- peers`: Tessera, the other servers that are found, and the floor, in turn on the same tables of
// one PostGIS.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { keepPicture } from '../../cluster/scenarios/report.ts'
import { type Duration, startGateway, writeReport } from './measure.ts'
import { bareNode } from './peers/bare-node.ts'
import { makeCases } from './peers/cases.ts'
import { psql } from './peers/floor.ts'
import { findProgram, PEERS_VARIABLE, type Peer } from './peers/peer.ts'
import { pgFeatureserv } from './peers/pg-featureserv.ts'
import { pgTileserv } from './peers/pg-tileserv.ts'
import { renderPicture } from './peers/picture.ts'
import { type Found, type Read, type Result, tablesOf } from './peers/results.ts'
import { Floor, PeerSide, type Side } from './peers/sides.ts'
import { makeTables } from './peers/tables.ts'
import { tessera } from './peers/tessera.ts'
import { tipg } from './peers/tipg.ts'
import { measureCase, measureReads, measureStarts, type Reporter } from './peers/turns.ts'

const PEERS: readonly Peer[] = [pgFeatureserv, tipg, pgTileserv, bareNode]
const CLIENTS = [1, 8, 64]
/** Characters of a message of a program that the report shows. */
const LONGEST_REASON = 400

export type PeersOptions = Duration & {
  /** Rows of the tables that show what growth costs, ascending. */
  readonly growth: readonly number[]
}

export async function measurePeers({ growth, ...duration }: PeersOptions) {
  const found = await comparePeers({ ...duration, growth, clients: CLIENTS })
  const picture = 'speed-peers.svg'
  keepPicture(picture, renderPicture(found.results))
  const notes = [
    '"Tessera : side" is the median, least and most of the ratios of the rounds; above 1 Tessera is faster. Paging and export count features per second, everything else requests. The floor is pgbench with the simplest SQL that gives the same features as GeoJSON text, without an order and without a count; for paging and export it is COPY of all of them.',
    ...found.notes,
    `![Requests per second, and p95 of a page as its table grows](${picture})`,
  ]
  writeReport('peers', 'Tessera and its peers', tablesOf(found), { ...found.facts, ...duration }, notes)
}

/** Enough for the pools of all peers, which stay open, and the clients of the floor. */
const MAX_CONNECTIONS = 300

/** Starts the gateway that runs PostGIS; nobody measures it. */
export async function openHost(data: string) {
  const start = () => startGateway(['--data', data, '--no-demo', '--processes', '1'])
  const first = await start()
  await psql(first.socket, `alter system set max_connections = ${MAX_CONNECTIONS}`, 'postgres')
  // pgbench connects again for each turn: otherwise the floor would measure how its connections load PostGIS.
  await psql(first.socket, "alter system set shared_preload_libraries = 'postgis-3'", 'postgres')
  await first.stop()
  return start()
}

/** Returns what reports progress, and collects what was not measured. */
export function makeReporter(): Reporter & { readonly notes: readonly string[] } {
  const notes: string[] = []
  const say = (text: string) => process.stderr.write(`${text}\n`)
  return {
    say,
    notes,
    note(text, cause) {
      const reason = (cause as Error | undefined)?.message.replaceAll(/\s+/g, ' ').slice(0, LONGEST_REASON)
      notes.push(reason ? `${text}: ${reason}` : `${text}.`)
      say(`*** ${notes.at(-1)}`)
    },
  }
}

/** Returns the peers whose programs are found, none of which runs yet, and the versions of all programs. */
export async function openPeers(candidates: readonly Peer[], socket: string, note: Reporter['note']) {
  const peers: PeerSide[] = []
  const facts: Record<string, unknown> = {}
  for (const peer of candidates) {
    const program = findProgram(peer.program)
    const version = program && (await peer.versionOf(program))
    if (program && version) {
      peers.push(new PeerSide(peer, program, socket))
      facts[peer.name] = version
    } else note(`${peer.name} was not found: ${PEERS_VARIABLE} names its program or the folder with it`)
  }
  facts.postgresql = (await psql(socket, 'show server_version'))[0]
  facts.postgis = (await psql(socket, 'select postgis_lib_version()'))[0]
  return { peers, facts }
}

/**
 * Measures all sides.
 * @param cities number of cities, resampled; undefined for the real ones
 * @param candidates the peers to look for
 */
export async function comparePeers({
  rounds,
  seconds,
  growth,
  clients,
  cities,
  candidates = PEERS,
}: PeersOptions & {
  readonly clients: readonly number[]
  readonly cities?: number
  readonly candidates?: readonly Peer[]
}): Promise<Found> {
  const scratch = await mkdtemp(join(tmpdir(), 'tessera-bench-'))
  const data = join(scratch, 'data')
  const { say, note, notes } = makeReporter()
  const host = await openHost(data)
  const { socket } = host
  const { peers, facts } = await openPeers([tessera, ...candidates], socket, note)
  try {
    await makeTables(data, socket, cities, growth, say)
    say('starting each peer …')
    const started = await measureStarts(peers, rounds, { say, note })
    const sides: Side[] = [...started, new Floor(socket, scratch)]
    const table = 'bench.cities'
    const rows = Number((await psql(socket, `select max(id) from ${table}`))[0])
    const results: Result[] = []
    for (const one of makeCases(clients, rows, growth))
      results.push(...(await measureCase(one, sides, { rounds, seconds, socket }, { say, note })))
    const reads: Read[] = []
    for (const way of ['paging', 'export'] as const)
      reads.push(...(await measureReads(way, sides, { rounds, table, rows }, { say, note })))
    return { results, reads, peers: started, facts, notes }
  } finally {
    for (const peer of peers) await peer.stop()
    await host.stop()
    await rm(scratch, { recursive: true, force: true })
  }
}
