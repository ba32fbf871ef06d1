// Owns the metrics for Prometheus, from events and from the state of the database.

import type { DatabaseStatus, Load } from '../database/contract.ts'
import type { Emit, Event } from '../events.ts'
import { Counter, Gauge, Histogram, Registry } from './prometheus.ts'

export interface Metrics {
  readonly registry: Registry
  /** Counts an event. */
  readonly observe: Emit
  /** Adds metrics of the database's state. */
  watch(database: { status(): DatabaseStatus; lag(): Promise<ReadonlyMap<number, number>> }): void
}

/** Seconds, from a look-up by id to the longest statement. */
const DURATION_BUCKETS = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** Seconds of waits for a secondary that is some milliseconds behind. */
const WAIT_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1]

/** Events that are only counted, with their labels. */
const COUNTED: Partial<Record<Event['type'], readonly [name: string, help: string, ...labels: string[]]>> = {
  'read-retried': ['tessera_reads_retried_total', 'Reads that were retried', 'endpoint'],
  'secondary-behind': [
    'tessera_secondaries_behind_total',
    'Reads that went to the primary because a secondary did not have what they had to see',
    'endpoint',
  ],
  'endpoint-down': [
    'tessera_endpoint_failures_total',
    'How often the circuit breaker of an address opened',
    'port',
    'endpoint',
  ],
  'secondary-missing': [
    'tessera_secondaries_missing_total',
    'How often a node group was found without its secondary',
    'group',
  ],
  'primary-missing': [
    'tessera_primaries_missing_total',
    'How often a node group was found without its primary',
    'group',
  ],
  'primary-replaced': [
    'tessera_primaries_replaced_total',
    'How often another member of a node group of Citus has become its primary',
    'group',
  ],
  'connection-lost': ['tessera_connections_lost_total', 'Idle connections that broke', 'port'],
  'query-cancelled': [
    'tessera_queries_cancelled_total',
    'Queries for which no client waited any more',
    'port',
  ],
  'request-refused': [
    'tessera_requests_refused_total',
    'Requests that were answered with status 503',
    'code',
  ],
  'tile-served': [
    'tessera_tiles_total',
    'Tiles: from memory, after a look whether something has changed, together with another request, or from the database',
    'from',
  ],
  'answer-cut': [
    'tessera_answers_cut_total',
    'Answers that were cut: their clients read too slowly, they took too long, or reading them failed',
    'reason',
  ],
  'rate-exceeded': [
    'tessera_rates_exceeded_total',
    'Requests that were answered with status 429, because their clients had spent what they may',
    'policy',
  ],
  'request-failed': ['tessera_requests_failed_total', 'Requests that failed because of a bug'],
}

export function makeMetrics(): Metrics {
  const registry = new Registry()
  const registers = [registry]
  const duration = new Histogram({
    name: 'tessera_request_duration_seconds',
    help: 'How long requests took, by route and status',
    labelNames: ['route', 'method', 'status'],
    buckets: DURATION_BUCKETS,
    registers,
  })
  const wait = new Histogram({
    name: 'tessera_secondary_wait_seconds',
    help: 'How long reads waited for a secondary to have what they had to see; tessera_secondaries_behind_total counts those that went on to the primary',
    buckets: WAIT_BUCKETS,
    registers,
  })
  const counters = new Map(
    Object.entries(COUNTED).map(([type, [name, help, ...labelNames]]) => [
      type,
      { labelNames, counter: new Counter({ name, help, labelNames, registers }) },
    ]),
  )

  return {
    registry,

    observe(event) {
      if (event.type === 'request-finished') {
        const { route = 'none', method, status, milliseconds } = event
        duration.observe({ route, method, status }, milliseconds / 1_000)
      }
      if (event.type === 'secondary-awaited') wait.observe(event.milliseconds / 1_000)
      const counted = counters.get(event.type)
      if (!counted) return
      const facts = event as unknown as Record<string, string>
      counted.counter.inc(Object.fromEntries(counted.labelNames.map((label) => [label, facts[label]!])))
    },

    watch(database) {
      const gauge = (
        name: string,
        help: string,
        labelNames: readonly string[],
        tell: (gauge: Gauge, status: DatabaseStatus) => void,
        aggregator?: 'min' | 'max',
      ) =>
        new Gauge({
          name,
          help,
          labelNames: [...labelNames],
          registers,
          ...(aggregator ? { aggregator } : {}),
          collect() {
            this.reset()
            tell(this, database.status())
          },
        })
      const address = ['port', 'endpoint'] as const
      gauge(
        'tessera_endpoint_up',
        'Whether an address serves: 0 while its breaker is open',
        address,
        (gauge, { endpoints }) => {
          for (const { port, endpoint, isUp } of endpoints) gauge.set({ port, endpoint }, isUp ? 1 : 0)
        },
        'min',
      )
      for (const [state, help] of Object.entries({
        running: 'Work that runs at an address',
        waiting: 'Work that waits for its turn at an address',
        limit: 'How much work may run at an address at once; for reads it follows the pressure on the server',
      }) as [keyof Load, string][])
        gauge(`tessera_endpoint_${state}`, help, [...address, 'purpose'], (gauge, { endpoints }) => {
          for (const { port, endpoint, load } of endpoints)
            for (const [purpose, { [state]: count }] of Object.entries(load))
              gauge.set({ port, endpoint, purpose }, count)
        })
      gauge(
        'tessera_staleness_seconds',
        'Age of the data that is read from a node group without a primary; absent if there is one',
        ['group'],
        (gauge, { stalenessMs }) => {
          for (const [group, ms] of stalenessMs) gauge.set({ group }, ms / 1_000)
        },
        'max',
      )
      gauge('tessera_changes_parked', 'Changes that wait for a primary', [], (gauge, { parked }) =>
        gauge.set(parked),
      )
      gauge(
        'tessera_reads_parked',
        'Reads that wait for a member that is being replaced',
        [],
        (gauge, { parkedReads }) => gauge.set(parkedReads),
      )
      new Counter({
        name: 'tessera_reads_total',
        help: 'Reads that were answered, by the role of the server',
        labelNames: ['source'],
        registers,
        collect() {
          this.reset()
          for (const [source, count] of Object.entries(database.status().reads)) this.inc({ source }, count)
        },
      })
      new Gauge({
        name: 'tessera_replication_lag_bytes',
        help: 'How far the secondary that is read from is behind its primary, by node group',
        labelNames: ['group'],
        registers,
        aggregator: 'max',
        async collect() {
          this.reset()
          // If a server does not answer, the metric of its group is absent.
          const lag = await database.lag()
          for (const [group, bytes] of lag) this.set({ group }, bytes)
        },
      })
    },
  }
}
