// Owns docker-compose.yml: the cluster's services, rendered from its topology. `node cluster/compose.ts` writes it.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CONFIG_FOLDERS, certificatesIn, containerTopology, MEMBER_FOLDER } from './containers.ts'
import { GATEWAY_URLS, type GatewayUrl, OWNER_URL, urlFileOf, urlVariableOf } from './database-urls.ts'
import { etcdArguments } from './etcd-config.ts'
import { DRAIN_DELAY_MS } from './haproxy-config.ts'
import { type Balancer, LOOPBACK, storeUrlOf, type Topology } from './topology.ts'

const ETCD_FOLDER = '/var/lib/etcd'
/** Ports of the first proxy on the loopback of the machine that runs the containers; those of the others follow. */
const HTTP_PORT = 8080
const STATISTICS_PORT = 8404

const names = (parts: readonly { readonly name: string }[]) => parts.map(({ name }) => name)

const { authorityFile, certificateFile, keyFile } = certificatesIn('store')
const healthOptions = [
  `--endpoints=${storeUrlOf(LOOPBACK, containerTopology.store[0]!.clientPort)}`,
  `--cacert=${authorityFile}`,
  `--cert=${certificateFile}`,
  `--key=${keyFile}`,
]

/** Returns a port that a variable can change. */
const portOf = (variable: string, port: number, index: number) =>
  `\${${variable}${index === 0 ? '' : `_${index + 1}`}:-${port + index}}`
const portAt = (index: number) => portOf('TESSERA_PORT', HTTP_PORT, index)
const statisticsPortAt = (index: number) => portOf('TESSERA_STATISTICS_PORT', STATISTICS_PORT, index)

/** Variables that are passed on if they are set; see loadtest/scripts/settings.ts. */
const LOADTEST_VARIABLES = [
  'COLLECTION',
  'USERS',
  'SPAWN_RATE',
  'RUN_TIME',
  'READ_RATIO',
  'WRITE_RATIO',
  'P95',
  'API_KEY',
]

/** Returns variables that name the files of URLs. */
const urlVariables = (
  folder: keyof typeof CONFIG_FOLDERS,
  names: readonly GatewayUrl[],
  indent = '    ',
): string =>
  names
    .map((name) => `${indent}${urlVariableOf(name)}: ${CONFIG_FOLDERS[folder]}/${urlFileOf(name)}`)
    .join('\n')

const proxyService = ({ name, httpPort, statisticsPort }: Balancer, index: number) => `  ${name}:
    <<: *proxy
    command: ["haproxy", "-f", "${CONFIG_FOLDERS.proxy}/${name}.cfg"]
    ports:
      - "127.0.0.1:${portAt(index)}:${httpPort}"
      - "127.0.0.1:${statisticsPortAt(index)}:${statisticsPort}"`

export function renderCompose(topology: Topology): string {
  const { members, store, proxies, fencers, gateways } = topology
  const waitFor = (services: readonly string[], condition: string, indent = '    ') =>
    services.map((name) => `${indent}${name}:\n${indent}  condition: ${condition}`).join('\n')
  return `# Rendered from cluster/topology.ts by cluster/compose.ts; change it there.
#
# The replicated cluster with its gateways and the demo data: \`docker compose up\`, then http://localhost:${HTTP_PORT}.
# For one gateway and one PostGIS: docker compose -f docker-compose.single.yml up.

name: tessera-cluster

x-hardened: &hardened
  restart: unless-stopped
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  read_only: true
  tmpfs: [/tmp]
  init: true
  # A killed container has no DNS name any more, and some engines respond only after 20 s. A look-up waits one second.
  dns_opt: ["timeout:1", "attempts:1"]

x-node: &node
  <<: *hardened
  # Built here; an image of this name is never pulled.
  image: tessera/node
  pull_policy: never
  # etcd starts first and stops last, because a primary deletes its leader key when it stops.
  depends_on:
${waitFor(['configure'], 'service_completed_successfully')}
${waitFor(names(store), 'service_started')}
  networks: [nodes]
  stop_grace_period: 60s

x-etcd: &etcd
  <<: *hardened
  image: quay.io/coreos/etcd:v3.6.14
  init: false
  user: "0"
  healthcheck:
    test: ${JSON.stringify(['CMD', '/usr/local/bin/etcdctl', ...healthOptions, 'endpoint', 'health'])}
    interval: 5s
    timeout: 3s
    retries: 12
  depends_on:
${waitFor(['configure'], 'service_completed_successfully')}
  networks: [nodes]

x-proxy: &proxy
  <<: *hardened
  image: haproxy:3.2
  init: false
  healthcheck:
    test: ["CMD", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${proxies[0]!.statisticsPort}"]
    interval: 5s
    timeout: 3s
    retries: 3
  depends_on:
${waitFor(['configure'], 'service_completed_successfully')}
  volumes:
    - proxy-config:${CONFIG_FOLDERS.proxy}:ro
  networks: [nodes, gateways, outside]

x-tools: &tools
  <<: *hardened
  image: tessera/cluster
  pull_policy: never

x-fencer: &fencer
  <<: *tools
  depends_on:
${waitFor(['configure'], 'service_completed_successfully')}
  volumes:
    - fencer-config:${CONFIG_FOLDERS.fencer}:ro
  networks: [nodes]

x-gateway: &gateway
  <<: *hardened
  image: tessera/gateway
  pull_policy: never
  depends_on:
${waitFor(['manage'], 'service_completed_successfully')}
  environment:
${urlVariables('gateway', GATEWAY_URLS)}
    # The HAProxys have addresses of the network of gateways, and name the clients.
    TESSERA_TRUST_PROXY: loopback,uniquelocal
    TESSERA_DRAIN_DELAY_MS: "${DRAIN_DELAY_MS}"
  volumes:
    - gateway-config:${CONFIG_FOLDERS.gateway}:ro
  networks: [gateways]
  stop_grace_period: 40s

services:
  # Writes passwords, certificates and every configuration, into one volume for each kind of service that reads them.
  configure:
    <<: *tools
    build: { context: ., target: cluster }
    restart: "no"
    network_mode: none
    user: root
    cap_add: [CHOWN, DAC_OVERRIDE, FOWNER]
    command: ["configure"]
    volumes:
${Object.entries(CONFIG_FOLDERS)
  .map(([folder, path]) => `      - ${folder}-config:${path}`)
  .join('\n')}

${store
  .map(
    (member) => `  ${member.name}:
    <<: *etcd
    command: ${JSON.stringify(['/usr/local/bin/etcd', ...etcdArguments(topology, member, ETCD_FOLDER, certificatesIn('store'))])}
    volumes: ["${member.name}:${ETCD_FOLDER}", "store-config:${CONFIG_FOLDERS.store}:ro"]`,
  )
  .join('\n')}

${members
  .map(
    ({ name }, index) => `  ${name}:
    <<: *node${index === 0 ? '\n    build: cluster/node' : ''}
    command: [${name}]
    volumes: ["${name}:${MEMBER_FOLDER}", "node-config:${CONFIG_FOLDERS.node}:ro"]`,
  )
  .join('\n')}

${fencers
  .map(
    ({ name }) => `  ${name}:
    <<: *fencer
    entrypoint: ["node", "cluster/fencer.ts", "${CONFIG_FOLDERS.fencer}/${name}.json"]`,
  )
  .join('\n')}

${proxies.map(proxyService).join('\n')}

  # Waits for all members, then creates extensions, roles and grants. To show the members:
  # \`docker compose run --rm --no-deps prepare status\`.
  prepare:
    <<: *tools
    restart: "no"
    user: root
    cap_add: [DAC_OVERRIDE]
    command: ["prepare"]
    environment:
      # Addresses that it prints at its end.
      PUBLISHED_AT: "${proxies.map((_, index) => `http://localhost:${portAt(index)}`).join(', ')}"
    depends_on:
${waitFor([...names(members), ...names(proxies)], 'service_started', '      ')}
    volumes: ["node-config:${CONFIG_FOLDERS.node}:ro"]
    networks: [nodes]

  # Creates Tessera's own tables and the demo data. To run commands as the role that owns the tables:
  # \`docker compose run --rm --no-deps manage keys create NAME\`.
  manage:
    <<: *hardened
    build: { context: ., target: gateway }
    image: tessera/gateway
    pull_policy: never
    restart: "no"
    command: ["migrate", "--demo"]
    healthcheck: { disable: true }
    depends_on:
${waitFor(['prepare'], 'service_completed_successfully', '      ')}
    environment:
${urlVariables('manage', [OWNER_URL], '      ')}
    volumes: ["manage-config:${CONFIG_FOLDERS.manage}:ro"]
    networks: [gateways]

${gateways.map(({ name }) => `  ${name}:\n    <<: *gateway`).join('\n')}

  # docker compose run --rm loadtest run /scripts/mixed.ts
  loadtest:
    <<: *hardened
    image: grafana/k6:1.8.1
    profiles: [loadtest]
    restart: "no"
    command: ["run", "/scripts/read.ts"]
    environment:
      - TARGET=http://${proxies[0]!.name}:${proxies[0]!.httpPort}
${LOADTEST_VARIABLES.map((name) => `      - ${name}`).join('\n')}
    volumes: ["./loadtest/scripts:/scripts:ro"]
    networks: [gateways]

networks:
  # Members, etcd and fencers; only the proxies connect it to other networks.
  nodes:
    internal: true
  gateways:
    internal: true
  outside:

volumes:
${[...Object.keys(CONFIG_FOLDERS).map((folder) => `${folder}-config`), ...names(store), ...names(members)]
  .map((name) => `  ${name}:`)
  .join('\n')}
`
}

if (import.meta.main)
  writeFileSync(join(import.meta.dirname, '../docker-compose.yml'), renderCompose(containerTopology))
