// Owns the options of etcd, and of the fencers beside it: where each listens, whom it knows.

import type { FencerConfiguration } from './fencer.ts'
import { listenAddressOf, type StoreMember, storeFolderOf, type Topology, urlOf } from './topology.ts'

/** Milliseconds: a loopback answers at once, but a busy machine may be late by a second. */
const HEARTBEAT_MS = 250
const ELECTION_MS = 2_500

export function etcdArguments(topology: Topology, member: StoreMember, folder: string): string[] {
  const { store } = topology
  const listen = (port: number) => urlOf(listenAddressOf(topology), port)
  const cluster = store.map(({ name, host, peerPort }) => `${name}=${urlOf(host, peerPort)}`).join(',')
  return Object.entries({
    name: member.name,
    'data-dir': folder,
    'listen-client-urls': listen(member.clientPort),
    'advertise-client-urls': urlOf(member.host, member.clientPort),
    'listen-peer-urls': listen(member.peerPort),
    'initial-advertise-peer-urls': urlOf(member.host, member.peerPort),
    'initial-cluster': cluster,
    'initial-cluster-token': topology.name,
    'initial-cluster-state': 'new',
    'heartbeat-interval': HEARTBEAT_MS,
    'election-timeout': ELECTION_MS,
    'auto-compaction-mode': 'periodic',
    'auto-compaction-retention': '1h',
    logger: 'zap',
  }).map(([option, value]) => `--${option}=${value}`)
}

export function renderFencer(topology: Topology, name: string): string {
  const { groups, store, fencers } = topology
  const index = fencers.findIndex((fencer) => fencer.name === name)
  // Its neighbour first, then the others.
  const nearestFirst = [...store.slice(index), ...store.slice(0, index)]
  const configuration: FencerConfiguration = {
    name,
    store: nearestFirst.map(({ host, clientPort }) => urlOf(host, clientPort)),
    majority: Math.floor(fencers.length / 2) + 1,
    groups: groups.map((group) => ({
      folder: storeFolderOf(topology, group),
      members: Object.fromEntries(
        group.members.map(({ name, host, patroniPort }) => [name, urlOf(host, patroniPort)]),
      ),
    })),
  }
  return JSON.stringify(configuration, null, 2)
}
