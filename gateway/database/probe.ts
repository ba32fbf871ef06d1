// Owns the probe of an address: queries it at intervals, over a connection that nothing else uses.

import { setTimeout as sleep } from 'node:timers/promises'

/** Interval of probes, which notice the death of an unused server; a connection that is closed is noticed at once. */
const INTERVAL_MS = 250
/** A timer that fires this late was delayed by this process itself, and is no evidence against the server. */
const LATENESS_MS = 250

export interface ProbeConnection {
  /**
   * @returns the pressure on the server, see pressure.ts
   * @throws if it does not serve as it should, and after `timeoutMs`
   */
  ask(): Promise<number>
  /** Node group of the node that the connection has reached; undefined without Citus. */
  readonly group: number | undefined
  /** Resolves when either side has closed the connection. */
  readonly closed: Promise<void>
  close(): void
}

export type ProbeOptions = {
  /** @throws if no server answers, and after `timeoutMs` */
  readonly connect: () => Promise<ProbeConnection>
  /** Time limit of `connect` and of `ask`, in milliseconds. */
  readonly timeoutMs: number
  readonly onAnswer: (group: number | undefined, pressure: number) => void
  readonly onFailure: (error: Error) => void
}

export interface Probe {
  /** Continues at once with a new connection: the present one does not show whether others can be opened. */
  renew(): void
  stop(): void
}

export function startProbe({ connect, timeoutMs, onAnswer, onFailure }: ProbeOptions): Probe {
  let connection: ProbeConnection | undefined
  let isStopped = false
  let wake = () => {}

  async function ask() {
    let start = performance.now()
    try {
      if (!connection) {
        const opened = await connect()
        start = performance.now()
        opened.closed.then(() => {
          if (connection === opened) connection = undefined
          wake()
        })
        connection = opened
      }
      const asked = connection
      const pressure = await asked.ask()
      if (!isStopped) onAnswer(asked.group, pressure)
    } catch (error) {
      drop()
      const isLate = performance.now() - start > timeoutMs + LATENESS_MS
      if (!isStopped && !isLate) onFailure(error as Error)
    }
  }

  function drop() {
    connection?.close()
    connection = undefined
  }

  async function run() {
    while (!isStopped) {
      const waking = new AbortController()
      wake = () => waking.abort()
      await ask()
      await sleep(INTERVAL_MS, undefined, { ref: false, signal: waking.signal }).catch(() => {})
    }
    drop()
  }
  run()

  return {
    renew() {
      drop()
      wake()
    },
    stop() {
      isStopped = true
      wake()
      drop()
    },
  }
}
