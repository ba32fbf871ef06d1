// The topology and what is rendered from it: no ports collide, and programs accept their configuration.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { renderCompose } from '../compose.ts'
import { containerTopology } from '../containers.ts'
import { etcdArguments, renderFencer } from '../etcd-config.ts'
import { renderBalancer, renderMemberProxy } from '../haproxy-config.ts'
import { PATRONI_VERSION, renderPatroni } from '../patroni-config.ts'
import { DEFAULT_SIZE, makeTopology, portsOf } from '../topology.ts'
import { credentials } from './credentials.ts'

const folder = mkdtempSync(join(tmpdir(), 'tessera-topology-'))
after(() => rmSync(folder, { recursive: true, force: true }))

const sizes = [
  DEFAULT_SIZE,
  { ...DEFAULT_SIZE, workers: 0 },
  { ...DEFAULT_SIZE, workers: 9, members: 4, gateways: 16, store: 5 },
]

test('the usual cluster is a coordinator pair and three worker pairs', () => {
  const { groups, members } = makeTopology(DEFAULT_SIZE)
  assert.deepEqual(
    groups.map(({ name }) => name),
    ['c', 'w1', 'w2', 'w3'],
  )
  assert.deepEqual(
    members.map(({ name }) => name),
    ['ca', 'cb', 'w1a', 'w1b', 'w2a', 'w2b', 'w3a', 'w3b'],
  )
})

test('no two parts share a port, whatever the size', () => {
  for (const size of sizes) {
    const ports = portsOf(makeTopology(size))
    assert.equal(new Set(ports).size, ports.length, JSON.stringify(size))
  }
})

const haproxy = ['/usr/sbin/haproxy', '/usr/local/sbin/haproxy'].find((path) => existsSync(path))

test('HAProxy accepts its configuration', {
  skip: haproxy ? false : 'SKIPPED: HAProxy is not installed',
}, () => {
  for (const topology of [...sizes.map((size) => makeTopology(size)), containerTopology]) {
    const configurations = topology.proxies.map((proxy) => renderBalancer(topology, proxy, folder))
    for (const text of [...configurations, renderMemberProxy(topology, folder)]) {
      const file = join(folder, 'haproxy.cfg')
      // The names of containers cannot be resolved here.
      writeFileSync(file, text.replaceAll('init-addr libc,none', 'init-addr none'))
      const { status, stderr } = spawnSync(haproxy!, ['-c', '-f', file], { encoding: 'utf8' })
      assert.equal(status, 0, stderr)
      assert.doesNotMatch(stderr, /WARNING/)
    }
  }
})

test('a member accepts clients only over TLS or its local socket, and with a password', () => {
  for (const size of sizes) {
    const topology = makeTopology(size)
    for (const member of topology.members) {
      const place = { folder: '/m', postgresBinaries: '/b', configFolder: '/c' }
      const { postgresql, bootstrap, citus } = JSON.parse(renderPatroni(topology, member, credentials, place))
      for (const rule of postgresql.pg_hba)
        assert.match(rule, /^local .* scram-sha-256$|^hostssl .* scram-sha-256$/)
      assert.equal(bootstrap.dcs.synchronous_mode, topology.members.length > topology.groups.length)
      const { ttl, loop_wait, retry_timeout } = bootstrap.dcs
      assert.ok(loop_wait + 2 * retry_timeout <= ttl)
      assert.equal(citus?.group, topology.isCitus ? member.group : undefined)
      // A coordinator announces itself to no other group.
      const coordinators = topology.groups[0]!.members.map(({ patroniPort }) => `127.0.0.1:${patroniPort}`)
      const words: string[] =
        postgresql.callbacks?.on_role_change.split(' ').map((word: string) => word.slice(1, -1)) ?? []
      assert.deepEqual(words.slice(5), member.group > 0 ? coordinators : [])
    }
  }
})

test('all members of etcd have the same list of members', () => {
  const topology = makeTopology(DEFAULT_SIZE)
  const clusters = topology.store.map((member) =>
    etcdArguments(topology, member, '/e', credentials).find((argument) =>
      argument.startsWith('--initial-cluster='),
    ),
  )
  assert.equal(new Set(clusters).size, 1)
  assert.equal(clusters[0]!.split(',').length, 3)
})

test('docker-compose.yml is rendered from the topology', () => {
  const file = join(import.meta.dirname, '../../docker-compose.yml')
  assert.equal(readFileSync(file, 'utf8'), renderCompose(containerTopology), 'run node cluster/compose.ts')
})

test('containers have the release of Patroni that the guard is written for', () => {
  const file = readFileSync(join(import.meta.dirname, '../node/Dockerfile'), 'utf8')
  assert.ok(file.includes(`'patroni[etcd3]==${PATRONI_VERSION}'`))
})

test('in containers members have different names, and the same loopback ports everywhere', () => {
  const { members } = containerTopology
  assert.deepEqual(
    members.map(({ connectPort }) => connectPort),
    members.map((_, index) => 6000 + index),
  )
  assert.equal(new Set(members.map(({ host }) => host)).size, members.length)
  for (const member of members) {
    const place = { folder: '/m', postgresBinaries: undefined, configFolder: '/c' }
    const { postgresql } = JSON.parse(renderPatroni(containerTopology, member, credentials, place))
    assert.equal(postgresql.connect_address, `127.0.0.1:${member.connectPort}`)
  }
})

test('a cluster that grows keeps the ports it has', () => {
  const larger = makeTopology({ ...DEFAULT_SIZE, workers: DEFAULT_SIZE.workers + 1 })
  const { members, store, gateways } = makeTopology(DEFAULT_SIZE)
  assert.deepEqual(larger.members.slice(0, members.length), members)
  assert.deepEqual([larger.store, larger.gateways], [store, gateways])
})

test('a majority of the fencers must agree, and each queries its own etcd first', () => {
  const topology = makeTopology(DEFAULT_SIZE)
  const configurations = topology.fencers.map(({ name }) =>
    JSON.parse(renderFencer(topology, name, credentials)),
  )
  assert.deepEqual(
    configurations.map(({ majority }) => majority),
    [2, 2, 2],
  )
  assert.equal(new Set(configurations.map(({ store }) => store.urls[0])).size, 3)
  assert.equal(configurations[0].groups[1].folder, '/service/tessera/1')
})
