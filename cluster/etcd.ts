// Owns etcd's options: where each member of the store listens, and whom it knows.

import type { StoreMember, Topology } from './topology.ts'

/** Milliseconds: a loopback answers at once, but a busy machine may be late by a second. */
const HEARTBEAT_MS = 250
const ELECTION_MS = 2_500

export function etcdArguments(
  { name, address, store }: Topology,
  member: StoreMember,
  folder: string,
): string[] {
  const url = (port: number) => `http://${address}:${port}`
  const cluster = store.map((other) => `${other.name}=${url(other.peerPort)}`).join(',')
  return Object.entries({
    name: member.name,
    'data-dir': folder,
    'listen-client-urls': url(member.clientPort),
    'advertise-client-urls': url(member.clientPort),
    'listen-peer-urls': url(member.peerPort),
    'initial-advertise-peer-urls': url(member.peerPort),
    'initial-cluster': cluster,
    'initial-cluster-token': name,
    'initial-cluster-state': 'new',
    'heartbeat-interval': HEARTBEAT_MS,
    'election-timeout': ELECTION_MS,
    'auto-compaction-mode': 'periodic',
    'auto-compaction-retention': '1h',
    logger: 'zap',
  }).map(([option, value]) => `--${option}=${value}`)
}
