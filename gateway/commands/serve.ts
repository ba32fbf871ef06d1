// Owns `tessera serve`: the process that starts everything and watches it. Modules that not every process needs are loaded
// when they are needed, because each takes time of the start and memory for as long as the process runs.

import { ConfigError, checkExposure, isEmbedded, readConfig, variableOf } from '../config.ts'
import { isServing, startProcesses } from '../processes.ts'
import { type Addresses, findDatabase, prepareDatabase, runUntilSignal } from './lifecycle.ts'
import { reportReady } from './supervisor.ts'

const onTerminal = () => process.stdout.isTTY === true

/** Starts what the serving processes need, then the processes; they end before it. */
export async function serve(args: readonly string[]) {
  const { config, positionals } = readConfig(args)
  if (positionals.length > 0) throw new ConfigError(`serve takes no argument such as ${positionals[0]}.`)
  const emit = onTerminal()
    ? (await import('../terminal.ts')).openTerminal(process.stdout)
    : (await import('../log.ts')).openLog(config.logLevel)
  if (isServing) return (await import('./serve-requests.ts')).serveRequests(config, emit)
  if (!checkExposure(config)) emit({ type: 'gateway-exposed', host: config.host })
  await runUntilSignal(emit, async (cleanup, interrupted) => {
    const { addresses, died } = await findDatabase(config, cleanup, false, emit)
    const demo = config.demo ?? isEmbedded(config)
    if (demo || isEmbedded(config)) await prepareDatabase({ ...config, demo }, addresses, emit)
    const environment = isEmbedded(config) ? environmentOf(addresses) : {}
    const starting = startProcesses({
      count: config.processes,
      environment,
      drainDelayMs: config.drainDelayMs,
      emit,
    })
    cleanup.defer(async () => {
      const processes = await starting.catch(() => undefined)
      await processes?.stop()
    })
    await starting
    await reportReady()
    const failed = died.then(() => {
      process.exitCode = 1
    })
    await Promise.race([failed, interrupted])
  })
  emit({ type: 'gateway-stopped' })
}

/** Returns the embedded database's addresses as variables; each process itself reads those of a configured one. */
const environmentOf = ({ readUrl, writeUrl }: Addresses) => ({
  [variableOf('readUrl')]: readUrl,
  [variableOf('writeUrl')]: writeUrl!,
})
