#!/usr/bin/env node
// Owns the command line: serve, import, migrate. The only process.exit.

import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { buildApp } from './app.ts'
import {
  type Config,
  ConfigError,
  flagOf,
  isEmbedded,
  readConfig,
  settings,
  systemEnvironment,
  variableOf,
} from './config.ts'
import { openDatabase } from './database/database.ts'
import { binariesOf, EmbeddedError, startEmbedded } from './database/embedded.ts'
import { MigrationError, migrate } from './database/migrate.ts'
import { openSession, type Session } from './database/session.ts'
import { GatewayError } from './errors.ts'
import type { Emit } from './events.ts'
import { openCatalog } from './features/catalog.ts'
import { COLUMN_TYPES, type ColumnType, parseColumnType } from './features/column-type.ts'
import { importDemo } from './features/demo.ts'
import { ImportError, importFeatures, openSource } from './features/ingest.ts'
import { FORMATS, type Format } from './features/source.ts'
import { openLog } from './http/telemetry.ts'
import { openTerminal } from './terminal.ts'
import { isWorker, startWorkers, tellFailure, tellServing, WorkerError } from './workers.ts'

/** After this, connections that are still busy while we stop are cut. */
const DRAIN_TIMEOUT_MS = 30_000

type Addresses = {
  readonly readUrl: string
  readonly writeUrl: string | undefined
  readonly ownerUrl: string | undefined
}

/** What is to be undone at the end, the last first. */
type Cleanup = AsyncDisposableStack

const onTerminal = () => process.stdout.isTTY === true

/** Brings up what workers need, then them; they end before it does. */
async function serve(args: readonly string[]) {
  const { config, positionals } = readConfig(args)
  if (positionals.length > 0) throw new ConfigError(`serve takes no ${positionals[0]}.`)
  const emit = onTerminal() ? openTerminal(process.stdout) : openLog(config.logLevel)
  if (isWorker) return serveAsWorker(config, emit)
  await runUntilSignal(emit, async (cleanup, interrupted) => {
    const { addresses, died } = await findDatabase(config, cleanup, false, emit)
    if (config.demo ?? isEmbedded(config))
      await withOwner(addresses, emit, (session) => importDemo(session, emit))
    else if (isEmbedded(config)) await withOwner(addresses, emit, async () => {})
    const environment = isEmbedded(config) ? environmentOf(addresses) : {}
    const starting = startWorkers({ count: config.workers, environment, emit })
    cleanup.defer(async () => {
      const workers = await starting.catch(() => undefined)
      await workers?.stop()
    })
    await starting
    const failed = died.then(() => {
      process.exitCode = 1
    })
    await Promise.race([failed, interrupted])
  })
  emit({ type: 'gateway-stopped' })
}

/** The embedded database's addresses as variables; those of a configured one workers read for themselves. */
const environmentOf = ({ readUrl, writeUrl, ownerUrl }: Addresses) => ({
  [variableOf('readUrl')]: readUrl,
  [variableOf('writeUrl')]: writeUrl!,
  [variableOf('ownerUrl')]: ownerUrl!,
})

async function serveAsWorker(config: Config, emit: Emit) {
  // These reach every process of a terminal: the one that watches us decides.
  for (const name of ['SIGINT', 'SIGHUP'] as const) process.on(name, () => {})
  const stopping = new AbortController()
  const stopped = new Promise<void>((resolve) => {
    const stop = () => {
      stopping.abort()
      resolve()
    }
    // Not once: without a listener, a second signal would end us in the middle of an answer.
    process.on('SIGTERM', stop)
    // It is gone, and with it what we need.
    process.once('disconnect', stop)
  })
  const cleanup = new AsyncDisposableStack()
  try {
    const readUrl = (config.readUrl ?? config.writeUrl ?? config.ownerUrl)!
    const database = openDatabase({ ...config, readUrl, emit })
    cleanup.defer(() => database.close())
    const catalog = await openCatalog({ database, ...config, emit })
    cleanup.defer(() => catalog.close())
    const app = await buildApp({ config, database, catalog, emit, isDraining: () => stopping.signal.aborted })
    cleanup.defer(() => drain(app))
    tellServing(await listen(app, config), catalog.list().length)
  } catch (error) {
    await tellFailure(explain(error))
    process.exitCode = 1
    return
  }
  await stopped
  await cleanup.disposeAsync()
}

const IMPORT_OPTIONS = {
  collection: 'value',
  format: 'value',
  object: 'value',
  longitude: 'value',
  latitude: 'value',
  id: 'value',
  type: 'list',
  append: 'flag',
  replace: 'flag',
  title: 'value',
  description: 'value',
  license: 'value',
  attribution: 'value',
  'skip-invalid': 'flag',
} as const

async function runImport(args: readonly string[]) {
  const { config, options, lists, positionals } = readConfig(args, IMPORT_OPTIONS)
  const [source, ...rest] = positionals
  if (!source || rest.length > 0 || !options.collection) {
    throw new ConfigError(
      'import takes one source and a collection: tessera import roads.geojson --collection roads',
    )
  }
  if (options.append && options.replace) throw new ConfigError('--append and --replace exclude each other.')
  const format = options.format as Format | undefined
  if (format && !FORMATS.includes(format))
    throw new ConfigError(`--format=${format}: must be ${FORMATS.join(', ')}.`)
  const types = parseTypes(lists.type ?? [])
  const emit = openTerminal(process.stderr)
  const { object, longitude, latitude } = options
  const opened = await openSource(source, process.stdin, { format, object, longitude, latitude })
  const existing = options.append ? 'append' : options.replace ? 'replace' : undefined
  const interruptedBy = await runUntilSignal(emit, async (cleanup) => {
    const { addresses } = await findDatabase(config, cleanup, true, emit)
    await withOwner(addresses, emit, (session) =>
      importFeatures(
        session,
        opened,
        {
          ...options,
          collection: options.collection!,
          existing,
          types,
          skipInvalid: options['skip-invalid'] === 'true',
        },
        emit,
      ),
    )
  })
  if (interruptedBy) process.exitCode = INTERRUPTIONS[interruptedBy]
}

/** `--type height:double` → height, double precision. */
function parseTypes(texts: readonly string[]): Map<string, ColumnType> {
  return new Map(
    texts.map((text) => {
      const [, property, name] = /^(.+):([^:]+)$/.exec(text) ?? []
      const type = name && parseColumnType(name)
      if (!property || !type) {
        throw new ConfigError(
          `--type=${text}: must be property:type, the type one of ${COLUMN_TYPES.join(', ')}.`,
        )
      }
      return [property, type]
    }),
  )
}

async function runMigrate(args: readonly string[]) {
  const { config } = readConfig(args)
  const emit = openTerminal(process.stderr)
  await runUntilSignal(emit, async (cleanup) => {
    const { addresses } = await findDatabase(config, cleanup, true, emit)
    await withOwner(addresses, emit, async () => {})
  })
}

/** The configured database, or the embedded one, started if need be. */
async function findDatabase(config: Config, cleanup: Cleanup, canShare: boolean, emit: Emit) {
  const { readUrl, writeUrl, ownerUrl } = config
  const never = new Promise<never>(() => {})
  if (!isEmbedded(config)) {
    const anyUrl = (readUrl ?? writeUrl ?? ownerUrl)!
    return {
      addresses: { readUrl: readUrl ?? anyUrl, writeUrl, ownerUrl: ownerUrl ?? writeUrl } satisfies Addresses,
      died: never,
    }
  }
  const { path, pgConfig } = systemEnvironment()
  const binaries = config.pgBin ?? (pgConfig && (await binariesOf(pgConfig)))
  const starting = startEmbedded({
    folder: config.ephemeral ? undefined : config.data,
    binaries,
    path,
    canShare,
    emit,
  })
  // Registered before it is there: told to stop meanwhile, we wait for it and then stop it.
  cleanup.defer(async () => {
    const started = await starting.catch(() => undefined)
    await started?.stop()
  })
  const embedded = await starting
  return { addresses: embedded satisfies Addresses, died: embedded.died }
}

/** Work as the role that owns Tessera's tables, after these have been brought up to date. */
async function withOwner(addresses: Addresses, emit: Emit, work: (session: Session) => Promise<unknown>) {
  if (!addresses.ownerUrl) {
    throw new ConfigError(
      'Only TESSERA_READ_URL is set: migrations and imports need TESSERA_WRITE_URL or TESSERA_OWNER_URL.',
    )
  }
  const session = await openSession(addresses.ownerUrl, 'owner')
  try {
    await migrate(session, emit)
    await work(session)
  } finally {
    await session.close()
  }
}

/** @returns the address to open in a browser */
async function listen(app: FastifyInstance, { host, port }: Config): Promise<string> {
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
  return `http://${name.includes(':') ? `[${name}]` : name}:${address.port}`
}

/** Lets what is under way end, then closes. */
async function drain(app: FastifyInstance) {
  const timer = setTimeout(() => app.server.closeAllConnections(), DRAIN_TIMEOUT_MS)
  await app.close()
  clearTimeout(timer)
}

/** Signals that ask us to stop, and what a shell reports of a program that they ended. */
const INTERRUPTIONS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const
type Interruption = keyof typeof INTERRUPTIONS
/** How long work that was interrupted may take to tidy up after itself. */
const CLEANUP_TIMEOUT_MS = 1_000

/**
 * Runs `work` until it ends or a signal comes, then cleans up.
 * @returns the signal, if one came
 */
async function runUntilSignal(
  emit: Emit,
  work: (cleanup: Cleanup, interrupted: Promise<void>) => Promise<void>,
) {
  const cleanup = new AsyncDisposableStack()
  let interruptedBy: Interruption | undefined
  const interrupted = new Promise<void>((resolve) => {
    for (const name of Object.keys(INTERRUPTIONS) as Interruption[]) {
      process.on(name, () => {
        if (interruptedBy) return
        interruptedBy = name
        emit({ type: 'gateway-draining', signal: name })
        resolve()
      })
    }
  })
  const working = work(cleanup, interrupted)
  // What fails because it was interrupted is no failure.
  working.catch(() => {})
  try {
    await Promise.race([working, interrupted])
  } finally {
    await cleanup.disposeAsync()
  }
  // What lost its database by that ends now, and takes its temporary files with it.
  await Promise.race([working.catch(() => {}), sleep(CLEANUP_TIMEOUT_MS)])
  return interruptedBy
}

function usage(): string {
  const width = 32
  const lines = Object.entries(settings).map(([name, { does, default: fallback }]) => {
    const shown = fallback === undefined || String(fallback) === '' ? '' : ` [${fallback}]`
    return `  ${`${flagOf(name)}, ${variableOf(name)}`.padEnd(width + 24)}${does}${shown}`
  })
  return `tessera: PostGIS tables as OGC API Features

  tessera serve                                serve over HTTP; starts a PostGIS of its own if none is configured
  tessera import SOURCE --collection NAME      import GeoJSON, GeoJSONSeq, TopoJSON or CSV; SOURCE is a file, or - for stdin
    --append | --replace                       add to the collection, or replace it
    --id PROPERTY                              the property that identifies a feature
    --type PROPERTY:TYPE                       a column's type; again for each property
    --title, --description, --license, --attribution TEXT
    --format ${FORMATS.join('|')}
    --object NAME                              which object of a topology
    --longitude, --latitude COLUMN             where a CSV has its coordinates
    --skip-invalid                             leave out features that are not valid
  tessera migrate                              bring Tessera's own tables up to date
  tessera help, version

Settings, as a flag or a variable; VARIABLE_FILE names a file that holds the value:
${lines.join('\n')}
`
}

const commands: Record<string, (args: readonly string[]) => Promise<void>> = {
  serve,
  import: runImport,
  migrate: runMigrate,
  async help() {
    process.stdout.write(usage())
  },
  async version() {
    const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
    process.stdout.write(`tessera ${version}\n`)
  },
}

/** Failures that are told in a sentence; anything else is a bug and shows where it happened. */
function explain(error: unknown): string {
  if (
    [ConfigError, EmbeddedError, MigrationError, ImportError, WorkerError].some(
      (kind) => error instanceof kind,
    )
  ) {
    return (error as Error).message
  }
  if (error instanceof GatewayError && error.cause)
    return `${error.message} (${(error.cause as Error).message})`
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

const [name = 'serve', ...rest] = process.argv.slice(2)
const command = commands[name.replace(/^--(help|version)$/, '$1')]
try {
  if (!command)
    throw new ConfigError(`There is no command ${name}; there are ${Object.keys(commands).join(', ')}.`)
  await command(rest)
} catch (error) {
  process.stderr.write(`tessera: ${explain(error)}\n`)
  process.exitCode = 1
}
process.exit()
