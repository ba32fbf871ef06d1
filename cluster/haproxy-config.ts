// Owns haproxy.cfg: which member each port leads to, and how soon one that went down is left.

import {
  type Balancer,
  type Group,
  LOOPBACK,
  listenAddressOf,
  type Member,
  type Topology,
} from './topology.ts'

/**
 * Two bad answers, a second in all, and the port is closed; one good one, and it is open: who calls itself primary
 * has the group's key.
 */
const CHECK = 'inter 500ms fastinter 200ms downinter 250ms fall 2 rise 1'
/** By then a gateway that says that it stops has been left: two bad answers, and the time that they take. */
export const DRAIN_DELAY_MS = 2_000
/**
 * The way to one member is cut off after some four seconds of silence: its clients would wait for it with
 * locks held, though its kernel still answers. Shorter, and a busy machine would cut off the living.
 */
const MEMBER_CHECK = 'inter 1s fastinter 200ms fall 3 rise 4'
/** Behind by more than this a secondary answers no reads, in bytes. */
const MAX_LAG = 16 * 1024 * 1024
/** How long a connection may be silent, such as a pool's between two requests. */
const IDLE = '24h'

/** What the rest of the world reaches: the coordinator, the groups, the gateways. */
export function renderBalancer(topology: Topology, balancer: Balancer, runFolder: string): string {
  const { groups, members, gateways, placement } = topology
  const address = listenAddressOf(topology)
  const [coordinator, ...workers] = groups as [Group, ...Group[]]
  const sections = [
    ...commonSections(topology, `${runFolder}/${balancer.name}.sock`),
    `frontend statistics
  mode http
  bind ${address}:${balancer.statisticsPort}
  timeout client 10s
  http-request use-service prometheus-exporter if { path /metrics }
  stats enable
  stats uri /
  stats refresh 2s`,
    listenPrimary('write', `${address}:${balancer.writePort}`, coordinator),
    listenSecondaries('read', `${address}:${balancer.readPort}`, coordinator, 'write'),
    ...workers.flatMap((group) => {
      const { write, read } = balancer.groupPorts.get(group.number)!
      return [
        listenPrimary(`${group.name}-write`, `${address}:${write}`, group),
        listenSecondaries(`${group.name}-read`, `${address}:${read}`, group, `${group.name}-write`),
      ]
    }),
    `listen http
  mode http
  bind ${address}:${balancer.httpPort}
  timeout client 60s
  timeout server 60s
  timeout http-request 30s
  option forwardfor
  option httpchk GET /health/ready
  balance leastconn
  # What goes to another gateway where one dies over it, if it had come whole: each change has a key, and happens once.
  option http-buffer-request
  retry-on conn-failure empty-response
  acl is_change method POST PUT PATCH DELETE
  acl has_key req.hdr(idempotency-key) -m found
  http-request set-var(txn.key) uuid() if is_change !has_key
  http-request set-header Tessera-Change-Key %[var(txn.key)] if is_change !has_key
  http-request set-var-fmt(txn.told) ',"idempotencyKey":"%[var(txn.key)]"' if is_change !has_key
  http-after-response set-status 503 if { status 502 504 }
${[502, 503, 504].map(renderRefusal).join('\n')}
${gateways.map(({ name, host, port }) => `  server ${name} ${host}:${port} check inter 500ms fall 2 rise 1`).join('\n')}`,
    // On one machine all HAProxys share these ports: while one of them lives, members find one another.
    ...(placement === 'loopback' ? members.map(listenMember) : []),
  ]
  return joinSections(balancer.name, sections)
}

/** When to come back where no gateway answered, in seconds. */
const RETRY_AFTER_S = 2

/** What is said in place of the gateways, in their words: a problem of RFC 9457. @param status what HAProxy calls it */
function renderRefusal(status: number): string {
  const problem = JSON.stringify({
    type: 'urn:tessera:problem:gateway-unavailable',
    title: 'No gateway answered',
    status: 503,
    detail: 'Come again in seconds. A change that is sent again with its Idempotency-Key is made only once.',
    code: 'gateway-unavailable',
  })
  const body = `content-type application/problem+json lf-string '${problem.slice(0, -1)}%[var(txn.told)]}'`
  return `  http-error status ${status} ${body} hdr retry-after ${RETRY_AFTER_S} hdr cache-control no-store`
}

/** Beside each member in its container: its own ways to all members. It fails with that member alone. */
export const renderMemberProxy = (topology: Topology, runFolder: string): string =>
  joinSections('the ways to members', [
    ...commonSections(topology, `${runFolder}/haproxy.sock`),
    ...topology.members.map(listenMember),
  ])

const joinSections = (name: string, sections: readonly string[]) =>
  `# Rendered from cluster/topology.ts: ${name}.\n\n${sections.join('\n\n')}\n`

const commonSections = ({ placement }: Topology, statisticsSocket: string) => [
  `global
  maxconn 4000
  stats socket ${statisticsSocket} mode 600 level admin
  stats timeout 5s
  # After a reload the old process makes no checks any more: what is still connected through it must come anew.
  hard-stop-after 10s`,
  // A container that starts again has another address.
  ...(placement === 'containers'
    ? [
        `resolvers engine
  nameserver engine 127.0.0.11:53
  hold valid 1s
  hold nx 2s
  hold timeout 2s
  resolve_retries 2
  timeout retry 500ms`,
      ]
    : []),
  `defaults
  mode tcp
  timeout connect 2s
  timeout client ${IDLE}
  timeout server ${IDLE}
  timeout check 1s
  retries 2
  option redispatch
  option clitcpka
  option srvtcpka${placement === 'containers' ? '\n  default-server resolvers engine init-addr libc,none resolve-prefer ipv4' : ''}`,
]

/** Who is connected to a member that went down would wait for ever. */
const server = ({ name, host, postgresPort }: Member, health: string) =>
  `  server ${name} ${host}:${postgresPort} ${health} on-marked-down shutdown-sessions`

const checked = (member: Member, times: string) => server(member, `check port ${member.patroniPort} ${times}`)

const lines = (members: readonly Member[], render: (member: Member) => string) =>
  members.map(render).join('\n')

/** Patroni answers 200 to one member of a group alone. */
const listenPrimary = (name: string, bind: string, { members }: Group) =>
  `listen ${name}
  bind ${bind}
  option httpchk GET /primary
  http-check expect status 200
${lines(members, (member) => checked(member, CHECK))}`

/** One that is not far behind, whether it streams or not: reads go on without a primary. Where there is none, what the write port leads to. */
const listenSecondaries = (name: string, bind: string, { members }: Group, writeName: string) =>
  `listen ${name}
  bind ${bind}
  balance leastconn
  option httpchk GET /replica?lag=${MAX_LAG}
  http-check expect status 200
  use_backend ${name}-primary if { nbsrv(${name}) eq 0 }
${lines(members, (member) => checked(member, CHECK))}

backend ${name}-primary
${lines(members, (member) => server(member, `track ${writeName}/${member.name}`))}`

/**
 * One member is there at once, or not at all: Citus cancels what it had there over one new connection after another,
 * and waits for the end of each before its node can stop.
 */
const listenMember = (member: Member) =>
  `listen member-${member.name}
  bind ${LOOPBACK}:${member.connectPort}
  timeout connect 1s
  retries 0
  option httpchk GET /health
  http-check expect status 200
${checked(member, MEMBER_CHECK)}`
