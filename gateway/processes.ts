// Owns the serving processes: as many as configured, behind one port, each replaced when it dies.

import cluster, { type Worker as ServingProcess } from 'node:cluster'
import { once } from 'node:events'
import { getCompileCacheDir } from 'node:module'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { UserError } from './errors.ts'
import type { Emit } from './events.ts'
import { AggregatorRegistry } from './http/prometheus.ts'
import type { Spending } from './http/rates.ts'

/** A serving process could not start; its message is for the person who started Tessera. */
export class ProcessError extends UserError {}

export type ProcessesOptions = {
  readonly count: number
  /** Additional variables of these processes: the addresses of the embedded database. */
  readonly environment: Readonly<Record<string, string>>
  /** How long a process that is to stop still serves. */
  readonly drainDelayMs: number
  readonly emit: Emit
}

export interface Processes {
  /** Lets the processes finish their requests; resolves when the last process has ended. */
  stop(): Promise<void>
}

/**
 * Returns the folder of compiled code as a variable: then even the first file of a process is there without types, and what
 * takes types away is not loaded (90 ms, 13 MB).
 */
function compileCache(): Readonly<Record<string, string>> {
  const folder = getCompileCacheDir()
  return folder ? { NODE_COMPILE_CACHE: dirname(folder) } : {}
}

/**
 * Options of V8 for serving processes. By default the new space grows far beyond what requests under way need, and is
 * swept so seldom that answers in buffers, which V8 counts with the old space, start a marking of the complete heap every
 * few hundred pages.
 */
const HEAP = [
  // Most of the new space, in MB.
  '--max-semi-space-size=8',
  // The old space up to which the heap is not marked, in MB: a serving process has 30 to 40 of its own.
  '--initial-old-space-size=128',
]

/** Message that a serving process sends to the watching process. */
export type Message =
  | { readonly type: 'serving'; readonly url: string; readonly collections: number }
  | { readonly type: 'failed'; readonly reason: string }
  /** Requests the metrics of all serving processes. */
  | { readonly type: 'metrics-wanted'; readonly id: number }
  /** Tells the other processes what clients have spent. */
  | SpentMessage
export type SpentMessage = { readonly type: 'spent'; readonly spendings: readonly Spending[] }
/** Answer to `metrics-wanted`; `text` is undefined if a process did not report its metrics. */
export type MetricsAnswer = {
  readonly type: 'metrics'
  readonly id: number
  readonly text: string | undefined
}

/** True in a serving process, false in the process that watches them. */
export const isServing = cluster.isWorker

/**
 * Time after SIGTERM and the drain delay at which a process is killed. It cuts busy connections itself 30 s after the
 * delay (DRAIN_TIMEOUT_MS in commands/serve-requests.ts): a process that still runs by now hangs.
 */
const STOP_TIMEOUT_MS = 40_000
/** Delay before a process is replaced, so that one that dies at every start does not keep the machine busy. */
const RESTART_DELAY_MS = 1_000

/**
 * Starts the first process and, once it serves, the others, so that whatever prevents a start is reported only once.
 * @throws ProcessError
 */
export async function startProcesses({
  count,
  environment,
  drainDelayMs,
  emit,
}: ProcessesOptions): Promise<Processes> {
  let isStopping = false
  const processes = new Set<ServingProcess>()
  let hasServed = false
  const metrics = new AggregatorRegistry()

  const answerMetrics = async (serving: ServingProcess, id: number) => {
    const text = await metrics.clusterMetrics().catch(() => undefined)
    if (serving.isConnected()) serving.send({ type: 'metrics', id, text } satisfies MetricsAnswer)
  }

  cluster.setupPrimary({ execArgv: [...process.execArgv, ...HEAP] })
  const start = () => {
    const serving = cluster.fork({ ...environment, ...compileCache() })
    processes.add(serving)
    let reason: string | undefined
    serving.once('exit', async (code, signal) => {
      processes.delete(serving)
      // Until a process has served, none is replaced: the person who started Tessera has to fix the cause.
      if (isStopping || !hasServed) return
      emit({ type: 'process-died', processId: serving.process.pid!, code, signal, reason })
      await sleep(RESTART_DELAY_MS)
      if (!isStopping) start()
    })
    serving.on('message', (message: Message) => {
      if (message.type === 'failed') reason = message.reason
      if (message.type === 'metrics-wanted') answerMetrics(serving, message.id)
      if (message.type === 'spent')
        for (const other of processes) if (other !== serving && other.isConnected()) other.send(message)
      if (message.type !== 'serving') return
      hasServed = true
      emit({ type: 'process-serving', processId: serving.process.pid! })
    })
    return serving
  }
  const first = start()
  const { url, collections } = await new Promise<Message & { type: 'serving' }>((resolve, reject) => {
    first.on('message', (message: Message) => {
      if (message.type === 'serving') resolve(message)
      if (message.type === 'failed') reject(new ProcessError(message.reason))
    })
    first.once('exit', (code, signal) =>
      reject(new ProcessError(`A process ended before it served (${signal ?? code}).`)),
    )
  })
  emit({ type: 'gateway-listening', url, collections, processes: count })
  while (processes.size < count) start()

  return {
    async stop() {
      isStopping = true
      await Promise.all(
        [...processes].map(async (serving) => {
          const exited = once(serving, 'exit')
          serving.process.kill('SIGTERM')
          const timer = setTimeout(() => serving.process.kill('SIGKILL'), drainDelayMs + STOP_TIMEOUT_MS)
          await exited
          clearTimeout(timer)
        }),
      )
    },
  }
}
