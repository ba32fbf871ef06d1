// Owns the processes that serve requests, which `tessera serve` starts and watches.

import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { buildApp } from '../app.ts'
import { type Config, ConfigError, wantsTraces } from '../config.ts'
import { openDatabase } from '../database/database.ts'
import type { Emit } from '../events.ts'
import { openCatalog } from '../features/collections/catalog.ts'
import { endConnections } from '../http/connections.ts'
import { makeMetrics } from '../http/metrics.ts'
import { openTracing } from '../trace.ts'
import { otherProcesses, shareMetrics, tellFailure, tellServing } from '../watching-process.ts'
import { describeFailure } from './failure.ts'
import { awaitDatabase } from './lifecycle.ts'

/** Time after which connections that are still busy during shutdown are cut. */
const DRAIN_TIMEOUT_MS = 30_000

export async function serveRequests(config: Config, log: Emit) {
  const isTraced = wantsTraces()
  // A terminal sends these to all processes; only the watching process acts on them.
  for (const name of ['SIGINT', 'SIGHUP'] as const) process.on(name, () => {})
  const stopping = new AbortController()
  const stopped = new Promise<void>((resolve) => {
    const stop = () => {
      stopping.abort()
      resolve()
    }
    // Not `once`: without a listener, a second signal would end this process in the middle of a response.
    process.on('SIGTERM', stop)
    // The watching process is gone, and with it the socket on which it accepts connections for this one.
    process.once('disconnect', stop)
  })
  const cleanup = new AsyncDisposableStack()
  try {
    if (isTraced) cleanup.defer(await openTracing())
    const readUrl = (config.readUrl ?? config.writeUrl ?? config.ownerUrl)!
    const metrics = makeMetrics()
    const emit: Emit = (event) => {
      log(event)
      metrics.observe(event)
    }
    const database = openDatabase({ ...config, readUrl, emit })
    cleanup.defer(() => database.close())
    metrics.watch(database)
    const catalog = await awaitDatabase(config, emit, () => openCatalog({ database, ...config, emit }))
    cleanup.defer(() => catalog.close())
    const app = await buildApp({
      config,
      database,
      catalog,
      emit,
      readMetrics: shareMetrics(metrics.registry),
      isDraining: () => stopping.signal.aborted,
      others: config.processes > 1 ? otherProcesses : undefined,
    })
    cleanup.defer(() => drain(app, config.drainDelayMs))
    tellServing(await listen(app, config), catalog.list().length)
  } catch (error) {
    await tellFailure(describeFailure(error))
    process.exitCode = 1
    return
  }
  await stopped
  await cleanup.disposeAsync()
}

/** @returns the address to open in a browser */
async function listen(app: FastifyInstance, { host, port, tlsCertificate }: Config): Promise<string> {
  try {
    await app.listen({ host, port })
  } catch (cause) {
    const { code } = cause as { code?: string }
    const reason =
      code === 'EADDRINUSE'
        ? 'the port is taken by another program; choose another with --port, or 0 for a free one'
        : `${(cause as Error).message}`
    throw new ConfigError(`Cannot listen on ${host}:${port}: ${reason}.`, { cause })
  }
  const address = app.server.address() as { address: string; port: number }
  const name = /^(0\.0\.0\.0|::)$/.test(address.address) ? 'localhost' : address.address
  const scheme = tlsCertificate ? 'https' : 'http'
  return `${scheme}://${name.includes(':') ? `[${name}]` : name}:${address.port}`
}

/**
 * Still serves during the delay, so that balancers can leave, and closes each connection after its next response;
 * then waits for open requests and closes.
 */
async function drain(app: FastifyInstance, delayMs: number) {
  endConnections(app.server)
  // If the watching process has died, no new connections arrive, and the delay is skipped.
  if (process.connected) await sleep(delayMs)
  const timer = setTimeout(() => app.server.closeAllConnections(), DRAIN_TIMEOUT_MS)
  await app.close()
  clearTimeout(timer)
}
