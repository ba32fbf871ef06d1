// Owns haproxy.cfg: which member each port leads to, and how soon one that went down is left.

import type { Balancer, Group, Member, Topology } from './topology.ts'

/** A primary is asked twice a second; two bad answers, a second in all, and its port is closed. */
const CHECK = 'inter 500ms fastinter 200ms downinter 500ms fall 2 rise 2'
/** Behind by more than this a secondary answers no reads, in bytes. */
const MAX_LAG = 16 * 1024 * 1024
/** How long a connection may be silent, such as a pool's between two requests. */
const IDLE = '24h'

export function renderHaproxy(topology: Topology, balancer: Balancer, runFolder: string): string {
  const { address, groups, members, gateways } = topology
  const [coordinator, ...workers] = groups as [Group, ...Group[]]
  const sections = [
    `global
  maxconn 4000
  stats socket ${runFolder}/${balancer.name}.sock mode 600 level admin
  stats timeout 5s`,
    `defaults
  mode tcp
  timeout connect 2s
  timeout client ${IDLE}
  timeout server ${IDLE}
  timeout check 1s
  retries 2
  option redispatch
  option clitcpka
  option srvtcpka
  # Who is connected to a member that went down would wait for ever.
  default-server on-marked-down shutdown-sessions`,
    `frontend statistics
  mode http
  bind ${address}:${balancer.statisticsPort}
  timeout client 10s
  http-request use-service prometheus-exporter if { path /metrics }
  stats enable
  stats uri /
  stats refresh 2s`,
    listenPrimary('write', `${address}:${balancer.writePort}`, coordinator, address),
    listenSecondaries('read', `${address}:${balancer.readPort}`, coordinator, address),
    ...workers.flatMap((group) => {
      const { write, read } = balancer.groupPorts.get(group.number)!
      return [
        listenPrimary(`${group.name}-write`, `${address}:${write}`, group, address),
        listenSecondaries(`${group.name}-read`, `${address}:${read}`, group, address),
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
${gateways.map(({ name, port }) => `  server ${name} ${address}:${port} check inter 500ms fall 2 rise 1`).join('\n')}`,
    ...members.map((member) => listenMember(member, address)),
  ]
  return `# Rendered from cluster/topology.ts: ${balancer.name}.\n\n${sections.join('\n\n')}\n`
}

const server = ({ name, postgresPort, patroniPort }: Member, address: string, options: string) =>
  `  server ${name} ${address}:${postgresPort} check port ${patroniPort} ${options}`

/** Patroni answers 200 to one member of a group alone. */
const listenPrimary = (name: string, bind: string, { members }: Group, address: string) =>
  `listen ${name}
  bind ${bind}
  option httpchk GET /primary
  http-check expect status 200
${members.map((member) => server(member, address, CHECK)).join('\n')}`

/** One that streams and is not far behind; the primary where there is none. */
const listenSecondaries = (name: string, bind: string, { members }: Group, address: string) =>
  `listen ${name}
  bind ${bind}
  balance leastconn
  option httpchk GET /replica?lag=${MAX_LAG}&replication_state=streaming
  http-check expect status 200
  use_backend ${name}-primary if { nbsrv(${name}) eq 0 }
${members.map((member) => server(member, address, CHECK)).join('\n')}

backend ${name}-primary
  option httpchk GET /primary
  http-check expect status 200
${members.map((member) => server(member, address, CHECK)).join('\n')}`

/**
 * The way to one member that all others take. What falls silent for some four seconds, though its kernel
 * still answers, is cut off: Citus would wait for it with locks held.
 */
const listenMember = ({ name, connectPort, postgresPort, patroniPort }: Member, address: string) =>
  `listen member-${name}
  bind ${address}:${connectPort}
  option httpchk GET /health
  http-check expect status 200
  server ${name} ${address}:${postgresPort} check port ${patroniPort} inter 1s fastinter 200ms fall 3 rise 4`
