// Owns the processes that serve: as many as there are cores to use, behind one port, replaced when one dies.

import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { AggregatorRegistry, type Registry } from 'prom-client'
import { gatewayError } from './errors.ts'
import type { Emit } from './events.ts'

/** A worker that could not begin; the message is its own, for the person who started Tessera. */
export class WorkerError extends Error {}

export type WorkersOptions = {
  readonly count: number
  /** Variables that workers have beyond ours: where the embedded database is. */
  readonly environment: Readonly<Record<string, string>>
  readonly emit: Emit
}

export interface Workers {
  /** Lets them finish what is under way; resolves when the last has ended. */
  stop(): Promise<void>
}

/** What a worker tells of itself. */
type Message =
  | { readonly type: 'serving'; readonly url: string; readonly collections: number }
  | { readonly type: 'failed'; readonly reason: string }
  /** It wants to know the metrics of all of them. */
  | { readonly type: 'metrics-wanted'; readonly id: number }
/** What it is answered; undefined where one of them did not tell its own. */
type MetricsAnswer = { readonly type: 'metrics'; readonly id: number; readonly text: string | undefined }

/** Whether this process is a worker, and not the one that watches them. */
export const isWorker = cluster.isWorker

/** A worker cuts what is not done by then; one that is still there after this does not answer any more. */
const STOP_TIMEOUT_MS = 40_000
/** One that dies again at once must not keep the machine busy with starting it. */
const RESTART_DELAY_MS = 1_000

/**
 * Starts the first worker, and once it serves, the others: what prevents one from beginning is told once.
 * @throws WorkerError
 */
export async function startWorkers({ count, environment, emit }: WorkersOptions): Promise<Workers> {
  let isStopping = false
  const workers = new Set<Worker>()
  let hasServed = false
  const metrics = new AggregatorRegistry()

  const answerMetrics = async (worker: Worker, id: number) => {
    const text = await metrics.clusterMetrics().catch(() => undefined)
    if (worker.isConnected()) worker.send({ type: 'metrics', id, text } satisfies MetricsAnswer)
  }

  const start = () => {
    const worker = cluster.fork(environment)
    workers.add(worker)
    let reason: string | undefined
    worker.once('exit', async (code, signal) => {
      workers.delete(worker)
      // Before any has served, what prevents it is for the person who started us to put right.
      if (isStopping || !hasServed) return
      emit({ type: 'worker-died', processId: worker.process.pid!, code, signal, reason })
      await sleep(RESTART_DELAY_MS)
      if (!isStopping) start()
    })
    worker.on('message', (message: Message) => {
      if (message.type === 'failed') reason = message.reason
      if (message.type === 'metrics-wanted') answerMetrics(worker, message.id)
      if (message.type !== 'serving') return
      hasServed = true
      emit({ type: 'worker-serving', processId: worker.process.pid! })
    })
    return worker
  }
  const first = start()
  const { url, collections } = await new Promise<Message & { type: 'serving' }>((resolve, reject) => {
    first.on('message', (message: Message) => {
      if (message.type === 'serving') resolve(message)
      if (message.type === 'failed') reject(new WorkerError(message.reason))
    })
    first.once('exit', (code, signal) =>
      reject(new WorkerError(`A worker ended before it served (${signal ?? code}).`)),
    )
  })
  emit({ type: 'gateway-listening', url, collections, workers: count })
  while (workers.size < count) start()

  return {
    async stop() {
      isStopping = true
      await Promise.all(
        [...workers].map(async (worker) => {
          const exited = once(worker, 'exit')
          worker.process.kill('SIGTERM')
          const timer = setTimeout(() => worker.process.kill('SIGKILL'), STOP_TIMEOUT_MS)
          await exited
          clearTimeout(timer)
        }),
      )
    },
  }
}

/** From within a worker: it takes requests. */
export const tellServing = (url: string, collections: number) =>
  process.send?.({ type: 'serving', url, collections } satisfies Message)

/** From within a worker: it cannot begin. Resolves when the message is on its way. */
export const tellFailure = (reason: string) =>
  new Promise<void>((resolve) =>
    process.send?.({ type: 'failed', reason } satisfies Message, () => resolve()),
  )

/**
 * From within a worker: the metrics of all of them together, in the text format of Prometheus.
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
