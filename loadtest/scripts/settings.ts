// Owns the settings of a load test: environment variables → settings, with the names that users of locust know.

export type Settings = {
  /** URL of the gateways, without a slash at its end. */
  readonly target: string
  /** Name of a collection of points with the text properties `name`, `country` and `admin1`. */
  readonly collection: string
  /** Number of users, and how many of them come per second. */
  readonly users: number
  readonly spawnRate: number
  /** Seconds that the users stay after all have come. */
  readonly runTime: number
  readonly readRatio: number
  readonly writeRatio: number
  /** Milliseconds that 95 % of reads, and of writes, may take at most. */
  readonly p95: number
  /** Name of every feature that the run writes; it removes them by this name. */
  readonly mark: string
  readonly apiKey: string | undefined
}

export type Environment = Readonly<Record<string, string | undefined>>

/** Defaults of one script that differ from the usual ones. */
export type Defaults = { readonly runTime?: number }

/** An invalid variable; the message has its name, its value, and what is allowed. */
export class SettingsError extends Error {}

/** Each variable with its meaning and its default. */
export const variables = {
  TARGET: ['URL of the gateways', 'http://localhost:8080'],
  COLLECTION: ['collection that is read and written', 'cities'],
  USERS: ['how many users come', '50'],
  SPAWN_RATE: ['how many of them come per second', '10'],
  RUN_TIME: ['how long they stay after all have come: seconds, or as in 90s, 10m, 1h', '30'],
  READ_RATIO: ['for mixed: how many parts are reads', '80'],
  WRITE_RATIO: ['for mixed: how many parts are writes', '20'],
  P95: ['what 95 % of reads, and of writes, may take at most, in milliseconds', '1000'],
  API_KEY: ['for changes, if the gateways require a key', ''],
  RUN_MARK: ['the name of what is written; the run removes it by this name', ''],
} as const satisfies Record<string, readonly [does: string, fallback: string]>
type Variable = keyof typeof variables

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600 }

/** @throws SettingsError */
export function readSettings(environment: Environment, { runTime }: Defaults = {}): Settings {
  const given = (name: Variable) => environment[name] || variables[name][1]
  const fail = (name: Variable, allowed: string): never => {
    throw new SettingsError(`${name}=${given(name)}: must be ${allowed}.`)
  }
  const whole = (name: Variable, least: number, most: number) => {
    const value = Number(given(name))
    if (!(Number.isInteger(value) && value >= least && value <= most))
      return fail(name, `a whole number from ${least} to ${most}`)
    return value
  }
  const time = (name: Variable) => {
    const [, number, unit = 's'] = /^(\d+)([smh])?$/.exec(given(name)) ?? []
    const seconds = Number(number) * SECONDS[unit]!
    return seconds >= 1 && seconds <= 86_400 * 7 ? seconds : fail(name, 'a time such as 30, 90s, 10m or 1h')
  }
  const target = given('TARGET').replace(/\/+$/, '')
  if (!/^https?:\/\/[^\s/]+(\/\S*)?$/.test(target)) fail('TARGET', 'an address such as http://localhost:8080')
  const collection = given('COLLECTION')
  if (/[\s/?#]/.test(collection)) fail('COLLECTION', 'the name of a collection, as at /collections')
  const [readRatio, writeRatio] = [whole('READ_RATIO', 0, 1_000_000), whole('WRITE_RATIO', 0, 1_000_000)]
  if (readRatio + writeRatio === 0) fail('WRITE_RATIO', 'more than 0 if READ_RATIO is 0')
  return {
    target,
    collection,
    users: whole('USERS', 1, 100_000),
    spawnRate: whole('SPAWN_RATE', 1, 100_000),
    runTime: environment.RUN_TIME || runTime === undefined ? time('RUN_TIME') : runTime,
    readRatio,
    writeRatio,
    p95: whole('P95', 1, 3_600_000),
    mark: given('RUN_MARK') || `loadtest ${Date.now()}`,
    apiKey: given('API_KEY') || undefined,
  }
}
