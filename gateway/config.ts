// Owns the configuration: the only reader of the environment and of command-line flags.

import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { getHeapStatistics } from 'node:v8'
import { splitUrls } from './database/addresses.ts'
import { UserError } from './errors.ts'
import { isSafeAddress } from './http/auth/issuer.ts'
import { isLoopback } from './http/auth/locality.ts'

type Setting<T> = {
  /** Purpose of the setting in one line, which docs/reference/configuration.md and `--help` show. */
  readonly does: string
  /** Description of the allowed values that completes the sentence "must be …". */
  readonly allowed: string
  readonly default: T
  /** Converts the text of a variable or flag to a value; returns undefined if the text is not allowed. */
  readonly parse: (text: string) => T | undefined
  /** True if the value must not appear in any error or log. */
  readonly isSecret?: true
}

const text = (does: string, allowed: string, fallback: string): Setting<string> => ({
  does,
  allowed,
  default: fallback,
  parse: (value) => (value === '' ? undefined : value),
})

const flag = (does: string, fallback: boolean | undefined): Setting<boolean | undefined> => ({
  does,
  allowed: 'true or false',
  default: fallback,
  parse: (value) => (value === 'true' ? true : value === 'false' ? false : undefined),
})

const integer = (does: string, fallback: number, least: number, most: number): Setting<number> => ({
  does,
  allowed: `an integer from ${least} to ${most}`,
  default: fallback,
  parse(value) {
    const number = /^\d{1,12}$/.test(value) ? Number(value) : Number.NaN
    return number >= least && number <= most ? number : undefined
  },
})

const optionalPath = (does: string): Setting<string | undefined> => ({
  does,
  allowed: 'a path',
  default: undefined,
  parse: (value) => value || undefined,
})

const list = (does: string, fallback: readonly string[]): Setting<readonly string[]> => ({
  does,
  allowed: 'names separated by commas',
  default: fallback,
  parse: (value) =>
    value
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== ''),
})

const file = (does: string): Setting<string | undefined> => ({
  does,
  allowed: 'the path of a file',
  default: undefined,
  parse: (value) => (value === '' || value.includes('\n') || value.includes('-----') ? undefined : value),
})

/** Returns an eighth of the memory that this process may use: its heap's limit, or that of its container if it is less. */
const defaultBufferLimit = () =>
  Math.floor(Math.min(getHeapStatistics().heap_size_limit, process.constrainedMemory() || Infinity) / 8)

/** A comma is allowed in the password and the options; anywhere else, what follows it is not a second URL. */
const DATABASE_URL = /^postgres(ql)?:\/\/([^@]*@)?[^,?]+(\?.*)?$/

const databaseUrl = (does: string): Setting<string | undefined> => ({
  does,
  allowed: 'a PostgreSQL URL such as postgresql://user@host:5432/database, or several separated by commas',
  default: undefined,
  parse: (value) => (splitUrls(value).every((url) => DATABASE_URL.test(url)) ? value : undefined),
  isSecret: true,
})

/** All settings. `poolSize`, for example, is read from TESSERA_POOL_SIZE or `--pool-size`. */
export const settings = {
  host: text('address to listen on', 'a host name or an IP address', '127.0.0.1'),
  port: integer('port to listen on; 0 takes a free one', 8080, 0, 65535),
  tlsCertificate: file('file with the certificate for TLS, and those of intermediate authorities, in PEM'),
  tlsKey: {
    ...file('file with the key of that certificate, in PEM without a passphrase'),
    // A value that is the key itself instead of its file must not appear in an error.
    isSecret: true,
  },
  securityContact: {
    does: 'whom to tell about a vulnerability, for /.well-known/security.txt; by default there is none',
    allowed: 'mailto:, tel: or https URIs separated by commas, the preferred one first',
    default: [],
    parse(value: string) {
      const uris = value.split(',').map((uri) => uri.trim())
      return uris.every((uri) => /^(mailto:|tel:|https:\/\/)[^\s]+$/.test(uri)) ? uris : undefined
    },
  } as Setting<readonly string[]>,
  insecure: flag('listen on addresses of other machines without TLS and without a trusted proxy', false),
  publicUrl: {
    does: 'address under which clients reach the gateway, for links; by default that of the request',
    allowed: 'an http or https URL such as https://example.org/geo',
    default: undefined,
    parse(value: string) {
      const url = URL.canParse(value) ? new URL(value) : undefined
      return url && /^https?:$/.test(url.protocol) ? value.replace(/\/+$/, '') : undefined
    },
  } as Setting<string | undefined>,
  trustProxy: {
    does: 'proxies whose X-Forwarded-* headers are trusted',
    allowed: 'addresses, networks, loopback, linklocal or uniquelocal separated by commas, or none',
    default: ['loopback'],
    parse(value: string) {
      const names = value === 'none' ? [] : value.split(',').map((name) => name.trim())
      const isAllowed = (name: string) =>
        ['loopback', 'linklocal', 'uniquelocal'].includes(name) ||
        (isIP(name.replace(/\/\d{1,3}$/, '')) > 0 && !name.endsWith('/'))
      return names.every(isAllowed) ? names : undefined
    },
  } as Setting<readonly string[]>,
  cors: {
    does: 'origins whose pages may read responses; by default all, or those of this machine if only it can reach the gateway',
    allowed: '*, none, or origins such as https://example.org separated by commas',
    default: undefined,
    parse(value: string) {
      const origins = value === 'none' ? [] : value.split(',').map((origin) => origin.trim())
      const isOrigin = (text: string) => URL.canParse(text) && new URL(text).origin === text
      return origins.every((origin) => origin === '*' || isOrigin(origin)) ? origins : undefined
    },
  } as Setting<readonly string[] | undefined>,
  readUrl: databaseUrl('PostGIS to read from; by default the one to write to'),
  workerReadUrl: databaseUrl(
    'Citus workers to read from, in any order; data that a single worker stores is read directly from it',
  ),
  writeUrl: databaseUrl('PostGIS to write to; without any URL, an embedded one is started'),
  ownerUrl: databaseUrl('PostGIS as the role that owns tables, for migrations and imports'),
  data: text('folder of the embedded PostGIS', 'a path', '.data'),
  ephemeral: flag('keep the embedded PostGIS in a temporary folder that is removed at the end', false),
  pgBin: optionalPath('folder of the PostgreSQL programs for the embedded PostGIS'),
  backupTo: optionalPath(
    'folder for backups of the embedded PostGIS and its log, or s3://BUCKET/PATH, which goes on at later starts; none ends it',
  ),
  backupStore: optionalPath(
    'file with endpoint, region, key and secret of the S3-compatible store of these backups',
  ),
  backupKey: optionalPath(
    'file with the key of these backups, created if it is missing; by default next to the folder of the data',
  ),
  backupsKept: {
    does: 'full backups that are kept with all that builds on them; two by default',
    allowed: 'an integer from 1 to 365',
    default: undefined,
    parse: (value: string) => integer('', 1, 1, 365).parse(value),
  } as Setting<number | undefined>,
  demo: flag('import the demo data if it is missing; true by default with the embedded PostGIS', undefined),
  schemas: list('schemas to serve; by default all that the role can read', []),
  excludeSchemas: list('schemas not to serve', []),
  styles: optionalPath('folder with MapLibre styles that take the place of those that are made'),
  crs: {
    does: 'coordinate systems in which all collections are served, besides CRS84, EPSG:4326, EPSG:3857 and their own',
    allowed: 'codes such as EPSG:25832 separated by commas, each once',
    default: [],
    parse(value: string) {
      const codes = value.split(',').map((code) => code.trim().toUpperCase())
      return codes.every((code) => /^\w+:\w+$/.test(code)) && new Set(codes).size === codes.length
        ? codes
        : undefined
    },
  } as Setting<readonly string[]>,
  oidcIssuer: {
    does: 'issuers (OpenID Connect) whose tokens are credentials, as in their claim iss',
    allowed:
      'https URLs such as https://login.example.org/realms/geo, or http URLs of this machine, separated by commas',
    default: [],
    parse(value: string) {
      const urls = value.split(',').map((url) => url.trim())
      const isAllowed = (url: string) => isSafeAddress(url) && !/[?#]/.test(url)
      return urls.every(isAllowed) && new Set(urls).size === urls.length ? urls : undefined
    },
  } as Setting<readonly string[]>,
  oidcAudience: list('names of this service in the claim aud of tokens, which must have one of them', []),
  oidcRoles: list(
    'claims of a token with the roles of its subject; a dot leads into one, as in realm_access.roles',
    ['roles', 'scope', 'scp'],
  ),
  oidcClient: {
    does: 'client of the first issuer with which people log in on the pages; without it they do not',
    allowed: 'the id of a client',
    default: undefined,
    parse: (value: string) => value || undefined,
  } as Setting<string | undefined>,
  oidcClientSecret: {
    does: 'secret of that client; without it, it is a public one',
    allowed: 'a text',
    default: undefined,
    parse: (value: string) => value || undefined,
    isSecret: true,
  } as Setting<string | undefined>,
  oidcLoginParameters: {
    does: 'what a login requests from the issuer besides what every login does',
    allowed:
      'parameters as in an address, of which one is scope with openid, such as scope=openid&resource=https://example.org',
    default: 'scope=openid',
    parse(value: string) {
      const scope = new URLSearchParams(value).get('scope') ?? ''
      return scope.split(' ').includes('openid') ? value : undefined
    },
  } as Setting<string>,
  requirePrecondition: flag('refuse changes of features without If-Match or If-Unmodified-Since', false),
  processes: integer(
    'number of serving processes; by default one per core, at most four',
    Math.min(availableParallelism(), 4),
    1,
    256,
  ),
  poolSize: integer(
    'connections of each process for reads, and as many for writes; beyond 8, reads use as many as the load of the server allows',
    8,
    1,
    1000,
  ),
  statementTimeoutMs: integer('time limit of one statement, in milliseconds', 10_000, 100, 3_600_000),
  bodyLimit: integer('largest body of a change, in bytes', 4 * 1024 * 1024, 1024, 256 * 1024 * 1024),
  requestTimeoutMs: integer(
    'time limit for a complete request to arrive, in milliseconds',
    30_000,
    100,
    3_600_000,
  ),
  maxConnections: integer(
    'connections of clients to each process, a quarter of them from one address that is no trusted proxy; further ones are closed',
    4_096,
    1,
    1_000_000,
  ),
  bufferLimit: integer(
    'bytes that each process holds for clients that have not read them yet; beyond that, requests get 503',
    defaultBufferLimit(),
    1024 * 1024,
    9_999_999_999,
  ),
  tileCache: integer(
    'bytes of tiles that each process keeps; 0 keeps none',
    64 * 1024 * 1024,
    0,
    9_999_999_999,
  ),
  tileMaxAge: integer(
    'how old a tile may be, in seconds: after that, the gateway and caches check whether something has changed',
    1,
    0,
    86_400,
  ),
  tileStale: integer(
    'how much longer caches outside may show a tile while they check it, in seconds',
    0,
    0,
    86_400,
  ),
  leastRate: integer(
    'bytes per second that a client must read on average, after ten seconds, or its answer is cut, and at which it must send a body with many features; 0 for any',
    50_000,
    0,
    1_000_000_000,
  ),
  answerTimeoutMs: integer(
    'longest time that a client may take for an answer, in milliseconds; a long page ends early, with a link to the next',
    600_000,
    1_000,
    86_400_000,
  ),
  clientStreams: integer(
    'large answers that one client, by API key or address, reads at once from each process',
    16,
    1,
    1_000_000,
  ),
  rateRequests: integer(
    'requests that one client, by API key, token or address, may send in each window; 0 for any number',
    0,
    0,
    1_000_000_000,
  ),
  rateBytes: integer(
    'bytes of answers that one client gets in each window; 0 for any number',
    0,
    0,
    999_999_999_999,
  ),
  rateWindow: integer('length of that window, in seconds', 60, 1, 86_400),
  startTimeoutMs: integer(
    'how long a starting gateway waits for a database that cannot be reached, in milliseconds',
    30_000,
    0,
    3_600_000,
  ),
  drainDelayMs: integer(
    'how long a stopping gateway still serves while it reports that it is not ready, so that balancers can leave it, in milliseconds',
    0,
    0,
    60_000,
  ),
  logLevel: {
    does: 'lowest level that is logged',
    allowed: 'trace, debug, info, warn, error or silent',
    default: 'info',
    parse: (value: string) =>
      ['trace', 'debug', 'info', 'warn', 'error', 'silent'].includes(value) ? value : undefined,
  } as Setting<string>,
}

type Value<S> = S extends Setting<infer T> ? T : never
export type Config = { readonly [Name in keyof typeof settings]: Value<(typeof settings)[Name]> }
type Name = keyof Config

/** A wrong flag or variable; its message is written for the person who typed it. */
export class ConfigError extends UserError {}

const words = (name: string) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
/** `poolSize` → `TESSERA_POOL_SIZE`. */
export const variableOf = (name: string) => `TESSERA_${words(name).replaceAll('-', '_').toUpperCase()}`
/** `poolSize` → `--pool-size`. */
export const flagOf = (name: string) => `--${words(name)}`

/** Former names of settings and their present ones. A former name is an error, so that it is not silently ignored. */
const RENAMED: Readonly<Record<string, Name>> = { workers: 'processes' }

const isFlag = (setting: { allowed: string }) => setting.allowed === 'true or false'

function parseSetting<T>(setting: Setting<T>, source: string, given: string): T {
  const value = setting.parse(given)
  if (value !== undefined) return value
  const shown = setting.isSecret ? '(not shown)' : given
  throw new ConfigError(`${source}=${shown}: must be ${setting.allowed}.`)
}

/** Returns the text of a variable, or of the file that `<variable>_FILE` names, as containers mount secrets. */
function readVariable(environment: NodeJS.ProcessEnv, variable: string): string | undefined {
  const file = environment[`${variable}_FILE`]
  if (!file) return environment[variable]
  if (environment[variable]) {
    throw new ConfigError(`${variable} and ${variable}_FILE are both set; set only one of them.`)
  }
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (cause) {
    throw new ConfigError(`${variable}_FILE=${file}: cannot be read (${(cause as Error).message}).`, {
      cause,
    })
  }
}

export type CommandLine<Option extends string> = {
  readonly config: Config
  readonly options: Readonly<Partial<Record<Option, string>>>
  /** Values of the repeatable options, in the order in which they were given. */
  readonly lists: Readonly<Record<string, readonly string[]>>
  readonly positionals: readonly string[]
}

/**
 * Reads the settings: flags override variables, and variables override defaults.
 * @param own the options of one command: with a value, without one, or repeatable; returned as they were typed
 * @throws ConfigError naming the variable or flag, the value, and what is allowed
 */
export function readConfig<Option extends string = never>(
  args: readonly string[],
  own: Readonly<Record<Option, 'value' | 'flag' | 'list'>> = {} as never,
  environment: NodeJS.ProcessEnv = process.env,
): CommandLine<Option> {
  const parsed = parseFlags(args, own)
  for (const [before, name] of Object.entries(RENAMED)) {
    const used =
      parsed.values[words(before)] !== undefined ? flagOf : environment[variableOf(before)] && variableOf
    if (used) throw new ConfigError(`${used(before)} is called ${used(name)} now.`)
  }
  const config: Record<string, unknown> = {}
  for (const [name, setting] of Object.entries(settings) as [Name, Setting<unknown>][]) {
    const typed = parsed.values[words(name)]
    const variable = variableOf(name)
    const set = readVariable(environment, variable)
    if (typed !== undefined) config[name] = parseSetting(setting, flagOf(name), String(typed))
    else if (set !== undefined && set !== '') config[name] = parseSetting(setting, variable, set)
    else config[name] = setting.default
  }
  const options: Record<string, string> = {}
  const lists: Record<string, string[]> = {}
  for (const name of Object.keys(own)) {
    const value = parsed.values[name]
    if (Array.isArray(value)) lists[name] = value.map(String)
    else if (value !== undefined) options[name] = String(value)
  }
  return {
    config: Object.freeze(config) as Config,
    options: options as Partial<Record<Option, string>>,
    lists,
    positionals: parsed.positionals,
  }
}

/** Options that have a letter, as in `-o FILE`. */
const SHORT: Readonly<Record<string, string>> = { output: 'o' }

function parseFlags(args: readonly string[], own: Readonly<Record<string, 'value' | 'flag' | 'list'>>) {
  const options: Record<string, { type: 'string' | 'boolean'; multiple?: true; short?: string }> = {}
  for (const [name, setting] of Object.entries(settings)) {
    options[words(name)] = { type: isFlag(setting) ? 'boolean' : 'string' }
  }
  for (const before of Object.keys(RENAMED)) options[words(before)] = { type: 'string' }
  for (const [name, takes] of Object.entries(own)) {
    options[name] = {
      type: takes === 'flag' ? 'boolean' : 'string',
      ...(takes === 'list' ? { multiple: true } : {}),
      ...(name in SHORT ? { short: SHORT[name]! } : {}),
    }
  }
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, allowNegative: true })
  } catch (cause) {
    throw new ConfigError((cause as Error).message.replace(/\. To specify .*$/s, '.'), { cause })
  }
}

/** Returns true if no database is configured, so that the embedded PostGIS is used. */
export const isEmbedded = (config: Config) => !config.readUrl && !config.writeUrl && !config.ownerUrl

/**
 * Checks that a gateway which other machines can reach is reached over TLS: its own, or that of a proxy in front of it.
 * @returns false if it is not, and the operator has allowed that
 * @throws ConfigError if nobody has
 */
export function checkExposure({ host, tlsCertificate, tlsKey, trustProxy, insecure }: Config): boolean {
  if ((tlsCertificate === undefined) !== (tlsKey === undefined))
    throw new ConfigError(
      `${variableOf('tlsCertificate')} and ${variableOf('tlsKey')} must be set together: one of them is missing.`,
    )
  const isElsewhere = (name: string) => name !== 'loopback' && !isLoopback(name.replace(/\/\d+$/, ''))
  if (tlsCertificate !== undefined || isLoopback(host) || trustProxy.some(isElsewhere)) return true
  if (insecure) return false
  throw new ConfigError(
    `${variableOf('host')}=${host} lets other machines reach the gateway without TLS, so that keys and data can be read on the way. Set ${variableOf('tlsCertificate')} and ${variableOf('tlsKey')}, name the proxy with TLS in front of it in ${variableOf('trustProxy')}, or allow it with ${flagOf('insecure')}.`,
  )
}

/** Returns true if OpenTelemetry's own variables turn traces on; its library reads its other variables itself. */
export function wantsTraces(
  {
    OTEL_SDK_DISABLED: isDisabled,
    OTEL_TRACES_EXPORTER: exporter,
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: tracesEndpoint = endpoint,
  }: NodeJS.ProcessEnv = process.env,
): boolean {
  if (isDisabled?.toLowerCase() === 'true' || exporter === 'none') return false
  if (exporter && exporter !== 'otlp')
    throw new ConfigError(`OTEL_TRACES_EXPORTER=${exporter}: must be otlp or none.`)
  return Boolean(exporter || tracesEndpoint)
}

/** Returns the variables of the system, which are no settings: where programs are, and who waits for Tessera. */
export const systemEnvironment = (): {
  readonly path: string
  readonly pgConfig: string | undefined
  /** Socket of systemd, if it waits for a message that Tessera serves. */
  readonly notifySocket: string | undefined
} => ({
  path: process.env.PATH ?? '',
  pgConfig: process.env.PG_CONFIG || undefined,
  notifySocket: process.env.NOTIFY_SOCKET || undefined,
})
