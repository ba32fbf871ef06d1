// Owns the processes that serve: as many as there are cores to use, behind one port, replaced when one dies.

import cluster, { type Worker as ServingProcess } from 'node:cluster'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { AggregatorRegistry, type Registry } from 'prom-client'
import { gatewayError } from './errors.ts'
import type { Emit } from './events.ts'

/** A serving process that could not start; the message is its own, for the person who started Tessera. */
export class ProcessError extends Error {}

export type ProcessesOptions = {
  readonly count: number
  /** Variables that these processes have beyond ours: where the embedded database is. */
  readonly environment: Readonly<Record<string, string>>
  readonly emit: Emit
}

export interface Processes {
  /** Lets them finish what is under way; resolves when the last has ended. */
  stop(): Promise<void>
}

/** What a serving process reports of itself. */
type Message =
  | { readonly type: 'serving'; readonly url: string; readonly collections: number }
  | { readonly type: 'failed'; readonly reason: string }
  /** It wants to know the metrics of all of them. */
  | { readonly type: 'metrics-wanted'; readonly id: number }
/** What it is answered; undefined where one of them did not tell its own. */
type MetricsAnswer = { readonly type: 'metrics'; readonly id: number; readonly text: string | undefined }

/** Whether this process serves, and is not the one that watches. */
export const isServing = cluster.isWorker

/** A process cuts what is not done by then; one that is still there after this does not answer any more. */
const STOP_TIMEOUT_MS = 40_000
/** One that dies again at once must not keep the machine busy with starting it. */
const RESTART_DELAY_MS = 1_000

/**
 * Starts the first process, and once it serves, the others: what prevents one from beginning is told once.
 * @throws ProcessError
 */
export async function startProcesses({ count, environment, emit }: ProcessesOptions): Promise<Processes> {
  let isStopping = false
  const processes = new Set<ServingProcess>()
  let hasServed = false
  const metrics = new AggregatorRegistry()

  const answerMetrics = async (serving: ServingProcess, id: number) => {
    const text = await metrics.clusterMetrics().catch(() => undefined)
    if (serving.isConnected()) serving.send({ type: 'metrics', id, text } satisfies MetricsAnswer)
  }

  const start = () => {
    const serving = cluster.fork(environment)
    processes.add(serving)
    let reason: string | undefined
    serving.once('exit', async (code, signal) => {
      processes.delete(serving)
      // Before any has served, what prevents it is for the person who started us to put right.
      if (isStopping || !hasServed) return
      emit({ type: 'process-died', processId: serving.process.pid!, code, signal, reason })
      await sleep(RESTART_DELAY_MS)
      if (!isStopping) start()
    })
    serving.on('message', (message: Message) => {
      if (message.type === 'failed') reason = message.reason
      if (message.type === 'metrics-wanted') answerMetrics(serving, message.id)
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
          const timer = setTimeout(() => serving.process.kill('SIGKILL'), STOP_TIMEOUT_MS)
          await exited
          clearTimeout(timer)
        }),
      )
    },
  }
}

/** From within such a process: it takes requests. */
export const tellServing = (url: string, collections: number) =>
  process.send?.({ type: 'serving', url, collections } satisfies Message)

/** From within such a process: it cannot begin. Resolves when the message is on its way. */
export const tellFailure = (reason: string) =>
  new Promise<void>((resolve) =>
    process.send?.({ type: 'failed', reason } satisfies Message, () => resolve()),
  )

/**
 * From within such a process: the metrics of all of them together, in the text format of Prometheus.
 * @param registry its own
 * @returns what asks for them, and throws a GatewayError where one of them does not answer
 */
export function shareMetrics(registry: Registry): () => Promise<string> {
  AggregatorRegistry.setRegistries(registry as Registry<never>)
  // It listens for those who want to know ours.
  new AggregatorRegistry()
  const asking = new Map<number, (text: string | undefined) => void>()
  let count = 0
  process.on('message', ({ type, id, text }: MetricsAnswer) => {
    if (type !== 'metrics') return
    asking.get(id)?.(text)
    asking.delete(id)
  })
  return async () => {
    const id = count++
    const text = await new Promise<string | undefined>((resolve) => {
      asking.set(id, resolve)
      process.send!({ type: 'metrics-wanted', id } satisfies Message)
    })
    if (text === undefined)
      throw gatewayError(
        'not-ready',
        'A process of this gateway is starting, and cannot tell its numbers yet.',
      )
    return text
  }
}
