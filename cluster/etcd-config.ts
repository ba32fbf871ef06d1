// Owns the options of etcd, and of the fencers next to it: where each listens, and which others it knows.

import type { CertificateFiles } from './credentials.ts'
import { openStore, type StoreAccess } from './etcd-client.ts'
import type { FencerConfiguration } from './fencer.ts'
import {
  LIFE_FOLDER,
  listenAddressOf,
  type StoreMember,
  storeFolderOf,
  storeUrlOf,
  type Topology,
  urlOf,
} from './topology.ts'

/** Milliseconds. Loopback responds at once, but a busy machine may delay a heartbeat by a second. */
const HEARTBEAT_MS = 250
const ELECTION_MS = 2_500

/**
 * Returns etcd's command line. Write access to etcd decides which member is primary and how PostgreSQL is configured,
 * so both sides of each connection need a certificate.
 */
export function etcdArguments(
  topology: Topology,
  member: StoreMember,
  folder: string,
  { authorityFile, certificateFile, keyFile }: CertificateFiles,
): string[] {
  const { store } = topology
  const listen = (port: number) => storeUrlOf(listenAddressOf(topology), port)
  const cluster = store.map(({ name, host, peerPort }) => `${name}=${storeUrlOf(host, peerPort)}`).join(',')
  return Object.entries({
    name: member.name,
    'data-dir': folder,
    'listen-client-urls': listen(member.clientPort),
    'advertise-client-urls': storeUrlOf(member.host, member.clientPort),
    'listen-peer-urls': listen(member.peerPort),
    'initial-advertise-peer-urls': storeUrlOf(member.host, member.peerPort),
    'initial-cluster': cluster,
    'initial-cluster-token': topology.name,
    'initial-cluster-state': 'new',
    ...tlsOptions(''),
    ...tlsOptions('peer-'),
    'heartbeat-interval': HEARTBEAT_MS,
    'election-timeout': ELECTION_MS,
    'auto-compaction-mode': 'periodic',
    'auto-compaction-retention': '1h',
    logger: 'zap',
  }).map(([option, value]) => `--${option}=${value}`)

  function tlsOptions(prefix: '' | 'peer-') {
    return {
      [`${prefix}client-cert-auth`]: 'true',
      [`${prefix}trusted-ca-file`]: authorityFile,
      [`${prefix}cert-file`]: certificateFile,
      [`${prefix}key-file`]: keyFile,
    }
  }
}

/** @param first index in the topology of the member of etcd that is queried first */
export function storeAccessOf({ store }: Topology, files: CertificateFiles, first = 0): StoreAccess {
  const { authorityFile, certificateFile, keyFile } = files
  const urls = [...store.slice(first), ...store.slice(0, first)].map(({ host, clientPort }) =>
    storeUrlOf(host, clientPort),
  )
  return { urls, authorityFile, certificateFile, keyFile }
}

/** Returns true if the member of etcd at this index in the topology responds and reaches a majority of etcd. */
export async function isStoreWell(
  topology: Topology,
  files: CertificateFiles,
  index: number,
): Promise<boolean> {
  const { urls, ...access } = storeAccessOf(topology, files, index)
  return openStore({ ...access, urls: urls.slice(0, 1) })
    .readKeys(LIFE_FOLDER)
    .then(
      () => true,
      () => false,
    )
}

export function renderFencer(topology: Topology, name: string, files: CertificateFiles): string {
  const { groups, fencers } = topology
  const configuration: FencerConfiguration = {
    name,
    // The etcd next to it first, then the others.
    store: storeAccessOf(
      topology,
      files,
      fencers.findIndex((fencer) => fencer.name === name),
    ),
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
