// Owns asking an address again and again whether somebody is there, over a connection that nothing else uses.

import { setTimeout as sleep } from 'node:timers/promises'

/** The soonest that a death is noticed where nobody asks; a connection that is closed is noticed at once. */
const INTERVAL_MS = 250
/** A timer that fires this late was kept waiting by ourselves, and is no evidence against anybody. */
const LATENESS_MS = 250

export interface ProbeConnection {
  /**
   * @returns how hard the server is pressed, see pressure.ts
   * @throws where it does not serve as it should, and after `timeoutMs`
   */
  ask(): Promise<number>
  /** Of Citus, that of the node where it has come out; undefined elsewhere. */
  readonly group: number | undefined
  /** Resolves when it is closed, from whichever side. */
  readonly closed: Promise<void>
  close(): void
}

export type ProbeOptions = {
  /** @throws where there is nobody, and after `timeoutMs` */
  readonly connect: () => Promise<ProbeConnection>
  /** By when `connect` and `ask` have answered. */
  readonly timeoutMs: number
  readonly onAnswer: (group: number | undefined, pressure: number) => void
  readonly onFailure: (error: Error) => void
}

export interface Probe {
  /** Goes on with a new connection, now: the one that there is says nothing of whether others can be made. */
  renew(): void
  stop(): void
}

export function startProbe({ connect, timeoutMs, onAnswer, onFailure }: ProbeOptions): Probe {
  let connection: ProbeConnection | undefined
  let isStopped = false
  let wake = () => {}

  async function ask() {
    const start = performance.now()
    try {
      if (!connection) {
        const opened = await connect()
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
