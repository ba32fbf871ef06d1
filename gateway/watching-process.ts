// Owns what a serving process exchanges with the process that watches it.

import { gatewayError } from './errors.ts'
import { AggregatorRegistry, type Registry } from './http/prometheus.ts'
import type { OtherProcesses } from './http/rates.ts'
import type { Message, MetricsAnswer, SpentMessage } from './processes.ts'

/** Reports that this process takes requests. */
export const tellServing = (url: string, collections: number) =>
  process.send?.({ type: 'serving', url, collections } satisfies Message)

/** Reports that this process cannot start; resolves when the message has been sent. */
export const tellFailure = (reason: string) =>
  new Promise<void>((resolve) =>
    process.send?.({ type: 'failed', reason } satisfies Message, () => resolve()),
  )

/** Tells the other serving processes what clients have spent, through the watching one. */
export const otherProcesses: OtherProcesses = {
  tell: (spendings) => process.send?.({ type: 'spent', spendings } satisfies Message),
  listen(listener) {
    process.on('message', (message: SpentMessage) => {
      if (message.type === 'spent') listener(message.spendings)
    })
  },
}

/**
 * Shares the metrics of this serving process with the others.
 * @param registry the metrics of this process
 * @returns a function that returns the metrics of all serving processes in the text format of Prometheus, and throws
 * a GatewayError if one of them does not answer
 */
export function shareMetrics(registry: Registry): () => Promise<string> {
  AggregatorRegistry.setRegistries(registry as Registry<never>)
  // Its constructor listens for requests for this process's metrics.
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
        'A process of this gateway is still starting and cannot report its metrics yet.',
      )
    return text
  }
}
