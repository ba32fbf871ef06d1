// Owns the page of the cluster: what is wrong, the topology, load, lag, rows, and what has happened lately.

import { html } from 'ghtml'
import type { Link } from '../../features/formats/format.ts'
import type { ClusterState } from '../cluster-state.ts'
import type { Page } from './layout.ts'
import type { Local } from './local.ts'
import { type FactColumn, factTable } from './table.ts'

type Group = ClusterState['groups'][number]
type Endpoint = ClusterState['endpoints'][number]
type Load = Endpoint['load']['read']

const trailOf = (base: string) => [{ name: 'Start', href: `${base}/` }, { name: 'Cluster' }]

/**
 * Parts that change have `data-live`: cluster.js reads this page again and replaces them. Values that it draws curves of
 * have `data-curve`, the name of the curve.
 */
const live = (id: string, content: string) => html`<div id="${id}" data-live>!${content}</div>`

export function clusterPage(base: string, state: ClusterState, links: readonly Link[], local: Local): Page {
  return {
    base,
    title: 'Cluster',
    language: local.language,
    trail: trailOf(base),
    links,
    script: 'cluster',
    main: html`<p class="following"><span id="status" role="status" aria-live="polite"><noscript>Load this page again to see what has changed.</noscript></span>
        <button type="button" id="pause" hidden>Pause</button></p>
      <div id="faults" data-live role="region" aria-live="polite" aria-label="What is wrong">!${faults(state, local)}</div>
      <h2 class="unseen">Topology</h2>
      !${live('topology', topology(state, local))}
      !${table('Node groups', 'groups', groupTable(state, local))}
      !${table('Addresses', 'addresses', addressTable(state, local))}
      !${table('Failovers', 'failovers', failoverTable(state, local))}
      !${table('Outages', 'outages', outageTable(state, local))}
      !${live('origin', html`<p><small>As the process ${state.process.id} of the gateway sees it, which started at !${at(state.process.startedAt, local)}. It knows neither etcd nor the fencers. Times are in UTC; rows are estimates of PostgreSQL.</small></p>`)}`,
  }
}

/** Returns the page for a browser without a key, in which cluster.js sends the one that is entered. */
export const lockedPage = (base: string, detail: string): Page => ({
  base,
  title: 'Cluster',
  trail: trailOf(base),
  links: [],
  script: 'cluster',
  main: html`<p id="status" role="status" aria-live="polite">${detail}</p>
    <form id="unlock" hidden>
      <label for="key">API key</label>
      <div class="line">
        <div><input id="key" type="password" autocomplete="off" spellcheck="false" placeholder="tessera_…" required></div>
        <button type="submit">Show</button>
      </div>
      <small>It is kept in this browser only.</small>
    </form>
    <noscript><p>A browser without JavaScript cannot send a key; other programs can.</p></noscript>`,
})

const at = (text: string, local: Local) => local.time(new Date(text))

/** Returns the name of a group; without Citus there is only one. */
const nameOf = ({ members }: ClusterState, group: number) =>
  members.length === 0 ? 'Database' : group === 0 ? 'Coordinator' : `Worker group ${group}`

/** Returns a sentence for each thing that is wrong. */
function faultsOf(state: ClusterState, local: Local): string[] {
  const { endpoints, groups, members, staleness, parked, parkedReads, rowsUnknownSince } = state
  const since = (text: string | undefined) => (text ? html` since !${at(text, local)}` : '')
  const without = groups.filter(({ group }) => state.groupsWithoutPrimary.includes(group))
  return [
    ...without.map(({ group, primaryMissingSince }) => {
      const age = staleness.find((one) => one.group === group)?.seconds
      const reads = age === undefined ? '' : `, and reads may lack those of the last ${local.number(age)} s`
      return html`${nameOf(state, group)} has no primary!${since(primaryMissingSince)}: its changes wait${reads}.`
    }),
    ...groups
      .filter(({ group }) => state.groupsWithoutSecondary.includes(group))
      .map(
        ({ group, secondaryMissingSince }) =>
          html`${nameOf(state, group)} has no secondary!${since(secondaryMissingSince)}: it is read from its primary.`,
      ),
    ...groups
      .filter(({ lagUnknownSince, group }) => lagUnknownSince && !state.groupsWithoutPrimary.includes(group))
      .map(
        ({ group, lagUnknownSince }) =>
          html`How far ${nameOf(state, group)} is replicated is unknown!${since(lagUnknownSince)}: a server does not answer.`,
      ),
    ...members
      .filter(({ missingSince }) => missingSince)
      .map(
        ({ node, group, missingSince }) =>
          html`The member ${node} of ${nameOf(state, group)} is missing!${since(missingSince)}.`,
      ),
    ...endpoints
      .filter(({ isUp }) => !isUp)
      .map(
        ({ endpoint, port, downSince }) =>
          html`The ${port} address ${endpoint} does not serve!${since(downSince)}: its circuit breaker is open.`,
      ),
    ...(parked + parkedReads > 0
      ? [html`${local.number(parked)} changes and ${local.number(parkedReads)} reads wait for a member.`]
      : []),
    ...(rowsUnknownSince
      ? [html`The number of rows is unknown!${since(rowsUnknownSince)}: no server answers.`]
      : []),
  ]
}

function faults(state: ClusterState, local: Local): string {
  const found = faultsOf(state, local)
  return found.length === 0
    ? '<p class="well">Everything serves.</p>'
    : html`<ul class="faults">!${found.map((sentence) => `<li>${sentence}</li>`).join('')}</ul>`
}

const STATES = { well: 'serves', lost: 'lost', unknown: 'unknown' } as const
type State = keyof typeof STATES

/** Returns a box of the topology. @param notes HTML */
const box = (state: State, name: string, notes: readonly string[]) =>
  html`<li class="part !${state}"><b>${name}</b> <span class="state">${STATES[state]}</span>!${notes.map((note) => `<br>${note}`).join('')}</li>`

const tier = (name: string, boxes: readonly string[], kind = 'boxes') =>
  html`<li><h3>${name}</h3><ul class="!${kind}">!${boxes.join('')}</ul></li>`

/** Returns the topology: the gateway, the addresses that it uses, and the groups behind them. */
function topology(state: ClusterState, local: Local): string {
  const { process, endpoints, groups, reads } = state
  const read = html`${local.number(reads.secondary)} reads from secondaries, ${local.number(reads.primary)} from primaries`
  const addresses = endpoints.map((endpoint) =>
    box(endpoint.isUp ? 'well' : 'lost', endpoint.endpoint, [
      html`${portOf(endpoint)}${endpoint.group === undefined ? '' : ` of ${nameOf(state, endpoint.group)}`}`,
    ]),
  )
  const boxes = groups.map(
    (group) =>
      html`<li class="group"><h4>${nameOf(state, group.group)}</h4><ul class="boxes">!${membersOf(state, group).join('')}</ul></li>`,
  )
  return html`<ol class="tiers">
    !${tier('Gateway', [box('well', process.id, [read])])}
    !${tier('Addresses', addresses)}
    !${tier(boxes.length > 1 ? 'Node groups' : 'Servers', boxes, 'groups')}
  </ol>`
}

const portOf = ({ port }: Endpoint) => (port === 'write' ? 'changes' : 'reads')

/** Returns the boxes of a group's members. Without Citus, only their roles are known. */
function membersOf(state: ClusterState, { group, lagBytes }: Group): string[] {
  const primary: State = state.groupsWithoutPrimary.includes(group) ? 'lost' : 'well'
  const isLost = state.groupsWithoutSecondary.includes(group)
  const secondary: State = isLost ? 'lost' : lagBytes === undefined ? 'unknown' : 'well'
  const own = state.members.filter((member) => member.group === group)
  if (own.length > 0)
    return own.map(({ node, role, isActive, missingSince }) => {
      const present = role === 'primary' ? primary : secondary
      return box(missingSince || !isActive ? 'lost' : present, node, [missingSince ? `was ${role}` : role])
    })
  if (!state.isReplicated) {
    const isUp = state.endpoints.some((endpoint) => endpoint.isUp)
    return [box(isUp ? 'well' : 'lost', 'one server', ['without a secondary'])]
  }
  const reads = state.endpoints.some(({ port, isUp }) => port === 'read' && isUp) ? secondary : 'lost'
  return [box(primary, 'primary', []), box(reads, 'secondary', [])]
}

const table = (name: string, id: string, content: string) =>
  html`<h2 id="${id}-heading">${name}</h2>
    <div class="scroll" tabindex="0" role="region" aria-labelledby="${id}-heading">!${live(id, content)}</div>`

/** Returns where the curve of a value is drawn. @param value undefined if it is not known */
const curve = (name: string, unit: string, value: number | undefined) =>
  html` <span class="curve" data-curve="${name}" data-unit="${unit}" data-value="${value ?? ''}"></span>`

function groupTable(state: ClusterState, local: Local): string {
  const { groups, isReplicated, groupsWithoutPrimary, groupsWithoutSecondary } = state
  const lost = (since: string | undefined) => html`missing!${since ? html` since !${at(since, local)}` : ''}`
  const lagOf = ({ group, lagBytes, lagUnknownSince }: Group) => {
    if (!isReplicated) return 'no secondary'
    const shown =
      lagBytes !== undefined
        ? local.bytes(lagBytes)
        : html`unknown!${lagUnknownSince ? html` since !${at(lagUnknownSince, local)}` : ''}`
    return shown + curve(`lag of ${group}`, 'bytes', lagBytes)
  }
  const count = (value: number | undefined) => (value === undefined ? 'unknown' : local.number(value))
  const isCitus = state.members.length > 0
  const columns: FactColumn<Group>[] = [
    ['Group', ({ group }) => nameOf(state, group)],
    [
      'Primary',
      ({ group, primaryMissingSince }) =>
        groupsWithoutPrimary.includes(group) ? lost(primaryMissingSince) : 'serves',
    ],
    [
      'Secondary',
      ({ group, secondaryMissingSince, lagBytes }) => {
        if (!isReplicated) return 'none'
        if (groupsWithoutSecondary.includes(group)) return lost(secondaryMissingSince)
        return lagBytes === undefined ? 'unknown' : 'serves'
      },
    ],
    ['Lag', lagOf],
    [isCitus ? 'Shards' : 'Tables', ({ shards, tables }) => count(shards ?? tables)],
    ['Rows', ({ rows }) => count(rows)],
  ]
  return factTable(groups, columns, 'None is known yet.')
}

function addressTable(state: ClusterState, local: Local): string {
  const loadOf = ({ running, waiting, limit }: Load) =>
    html`${local.number(running)} of ${local.number(limit)}${waiting > 0 ? `, ${local.number(waiting)} wait` : ''}`
  const busy = ({ load }: Endpoint) =>
    Object.values(load).reduce((sum, { running, waiting }) => sum + running + waiting, 0)
  const columns: FactColumn<Endpoint>[] = [
    ['Address', ({ endpoint }) => html`${endpoint}`],
    [
      'For',
      (endpoint) =>
        html`${portOf(endpoint)}${endpoint.group === undefined ? '' : `, ${nameOf(state, endpoint.group)}`}`,
    ],
    [
      'Breaker',
      ({ isUp, downSince }) =>
        isUp ? 'closed' : html`open!${downSince ? html` since !${at(downSince, local)}` : ''}`,
    ],
    ['Reads', ({ load }) => loadOf(load.read)],
    ['Long reads', ({ load }) => loadOf(load.stream)],
    ['Changes', ({ load, port }) => (port === 'write' ? loadOf(load.write) : '')],
    [
      'Load',
      (endpoint) =>
        local.number(busy(endpoint)) +
        curve(
          `load of ${state.process.id} on ${endpoint.port} ${endpoint.endpoint}`,
          'at once',
          busy(endpoint),
        ),
    ],
  ]
  return factTable(state.endpoints, columns, '')
}

const NONE = 'None since this process of the gateway started.'

const failoverTable = (state: ClusterState, local: Local) =>
  factTable(
    state.failovers,
    [
      ['Noticed', (failover) => at(failover.at, local)],
      ['Group', ({ group }) => nameOf(state, group)],
      ['New primary', ({ to }) => html`${to}`],
      ['Primary before', ({ from }) => html`${from}`],
    ],
    state.members.length > 0 ? NONE : 'Only Citus reports which member is a primary; outages are below.',
  )

const outageTable = (state: ClusterState, local: Local) =>
  factTable(
    state.outages,
    [
      ['Since', ({ since }) => at(since, local)],
      ['Until', ({ until }) => (until ? at(until, local) : 'it lasts')],
      [
        'Lost',
        ({ endpoint, port, group, role }) =>
          group === undefined ? html`${port} address ${endpoint}` : html`${role} of ${nameOf(state, group)}`,
      ],
      ['First error', ({ reason }) => html`${reason}`],
    ],
    NONE,
  )
