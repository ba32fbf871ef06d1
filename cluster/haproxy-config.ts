// Owns haproxy.cfg: which member each port leads to, and how soon HAProxy leaves one that went down.

import {
  type Balancer,
  type Group,
  LOOPBACK,
  listenAddressOf,
  type Member,
  type Topology,
} from './topology.ts'

/**
 * Two failed checks close the way to a member, after 0.7 s at most, plus up to a second for each check that times out.
 * One good check opens it, because a member that reports itself as primary holds the group's leader key.
 */
const CHECK = 'inter 500ms fastinter 200ms downinter 250ms fall 2 rise 1'
/** Milliseconds after which HAProxy has left a gateway that reports that it stops: two failed checks take less. */
export const DRAIN_DELAY_MS = 2_000
/**
 * HAProxy cuts off the way to a member after about four seconds of silence. Its clients would otherwise wait for it
 * with locks held, because its kernel still responds. With a shorter time, a busy machine would cut off live members.
 */
const MEMBER_CHECK = 'inter 1s fastinter 200ms fall 3 rise 4'
/** Bytes that a secondary may be behind and still serve reads. */
const MAX_LAG = 16 * 1024 * 1024
/** Time that a connection may be silent, such as one of a pool between two requests. */
const IDLE = '24h'

/** Renders the proxy through which clients reach the coordinator, the groups and the gateways. */
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
  # Links follow these headers, and clients must not choose where links lead. X-Forwarded-For stays, and gets an address
  # more. A proxy in front of this one needs TESSERA_PUBLIC_URL.
  http-request del-header ^x-forwarded-(host|port|prefix|proto)$ -m reg
  option forwardfor
  option httpchk GET /health/ready
  balance leastconn
  # If a gateway dies during a request that HAProxy has buffered completely, another gateway gets it. Each change has a
  # key, so it is applied once.
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
    // On one machine all HAProxys share these ports, so members reach each other while one HAProxy lives.
    ...(placement === 'loopback' ? members.map(listenMember) : []),
  ]
  return joinSections(balancer.name, sections)
}

/** Seconds after which a client should send its request again if no gateway responded. */
const RETRY_AFTER_S = 2

/** Renders a response of HAProxy's own: a problem (RFC 9457), as gateways send. @param status that it replaces */
function renderRefusal(status: number): string {
  const problem = JSON.stringify({
    type: 'urn:tessera:problem:gateway-unavailable',
    title: 'No gateway answered',
    status: 503,
    detail:
      'Send the request again in a few seconds. A change that is sent again with its Idempotency-Key is applied only once.',
    code: 'gateway-unavailable',
  })
  const body = `content-type application/problem+json lf-string '${problem.slice(0, -1)}%[var(txn.told)]}'`
  return `  http-error status ${status} ${body} hdr retry-after ${RETRY_AFTER_S} hdr cache-control no-store`
}

/** Renders the HAProxy that leads from one member in its container to all members. It fails only with that member. */
export const renderMemberProxy = (topology: Topology, runFolder: string): string =>
  joinSections('listeners that lead to members', [
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
  # After a reload the old process runs no checks any more, so clients that are still connected to it must reconnect.
  hard-stop-after 10s`,
  // A container that restarts may have another address.
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

/** Ends the sessions at a member that went down, because their clients would wait for it forever. */
const server = ({ name, host, postgresPort }: Member, health: string) =>
  `  server ${name} ${host}:${postgresPort} ${health} on-marked-down shutdown-sessions`

const checked = (member: Member, times: string) => server(member, `check port ${member.patroniPort} ${times}`)

const lines = (members: readonly Member[], render: (member: Member) => string) =>
  members.map(render).join('\n')

/** Leads to the primary: only its Patroni responds to `/primary` with 200. */
const listenPrimary = (name: string, bind: string, { members }: Group) =>
  `listen ${name}
  bind ${bind}
  option httpchk GET /primary
  http-check expect status 200
${lines(members, (member) => checked(member, CHECK))}`

/**
 * Leads to secondaries that are not far behind, whether they stream or not, so that reads go on without a primary. If
 * there is none, leads to the member that the write port leads to.
 */
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
 * Leads to one member, and refuses a client soon if that member is down. Citus cancels its queries on a lost member
 * over one new connection after another, and its own node cannot stop before each of these attempts has ended.
 */
const listenMember = (member: Member) =>
  `listen member-${member.name}
  bind ${LOOPBACK}:${member.connectPort}
  timeout connect 1s
  retries 0
  option httpchk GET /health
  http-check expect status 200
${checked(member, MEMBER_CHECK)}`
