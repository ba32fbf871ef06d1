// Owns what this process has seen go wrong: which addresses and members were lost and since when, and which primaries were
// replaced.

import type { Emit, Event } from '../events.ts'
import type { Port } from './pool.ts'

/** A loss of an address, or of a group's primary or secondary. */
export type Outage = {
  readonly lost:
    | { readonly endpoint: string; readonly port: Port }
    | { readonly group: number; readonly role: Role }
  readonly since: Date
  /** Undefined while it lasts. */
  until: Date | undefined
  readonly reason: string
}
export type Role = 'primary' | 'secondary'

/** Another member has become primary of its group. */
export type Failover = {
  readonly group: number
  /** Host and port of the primary before, and of the one since then. */
  readonly from: string
  readonly to: string
  /** When this process noticed it. */
  readonly at: Date
}

export interface Outages {
  /** Takes note of an event; most events concern no outage. */
  readonly note: Emit
  /** All that last, and the latest that are over; the newest is first. */
  list(): readonly Outage[]
  /** The latest; the newest is first. */
  failovers(): readonly Failover[]
}

/** Most outages that are over, and most failovers, that are remembered: a night of trouble, and some kilobytes. */
const REMEMBERED = 20

/** Length of an error's message that is remembered. */
const REASON_LENGTH = 200

export function makeOutages(): Outages {
  let outages: Outage[] = []
  let failovers: Failover[] = []

  function begin(lost: Outage['lost'], error: Error) {
    if (outages.some((one) => !one.until && isSame(one.lost, lost))) return
    const { message } = error.cause instanceof Error ? error.cause : error
    const reason = message.slice(0, REASON_LENGTH)
    outages = [{ lost, since: new Date(), until: undefined, reason }, ...outages]
  }
  function end(lost: Outage['lost']) {
    const outage = outages.find((one) => !one.until && isSame(one.lost, lost))
    if (!outage) return
    outage.until = new Date()
    let over = 0
    outages = outages.filter(({ until }) => until === undefined || ++over <= REMEMBERED)
  }

  return {
    note(event: Event) {
      switch (event.type) {
        case 'endpoint-down':
          return begin({ endpoint: event.endpoint, port: event.port }, event.error)
        case 'endpoint-up':
          return end({ endpoint: event.endpoint, port: event.port })
        case 'primary-missing':
          return begin({ group: event.group, role: 'primary' }, event.error)
        case 'primary-back':
          return end({ group: event.group, role: 'primary' })
        case 'secondary-missing':
          return begin({ group: event.group, role: 'secondary' }, event.error)
        case 'secondary-back':
          return end({ group: event.group, role: 'secondary' })
        case 'primary-replaced': {
          const { group, from, to } = event
          failovers = [{ group, from, to, at: new Date() }, ...failovers].slice(0, REMEMBERED)
        }
      }
    },
    list: () => outages,
    failovers: () => failovers,
  }
}

const isSame = (one: Outage['lost'], other: Outage['lost']) =>
  'group' in one
    ? 'group' in other && one.group === other.group && one.role === other.role
    : 'endpoint' in other && one.endpoint === other.endpoint && one.port === other.port
