// Owns `tessera collections`: what operators set for single collections.

import { ConfigError, flagOf, readConfig, settings } from '../config.ts'
import type { Session } from '../database/session.ts'
import { GROUPS, type Group } from '../features/access/rules.ts'
import { AUDIT_LEVELS } from '../features/collections/collection.ts'
import {
  type CollectionSettings,
  listSettings,
  resetCollection,
  rolesWithoutAudit,
  rolesWithoutRules,
  SETTING_NAMES,
  type SettingName,
  setCollection,
} from '../features/collections/settings.ts'
import { runAsOwner } from './run-as-owner.ts'
import { writeTable } from './table.ts'

const OPTIONS = {
  crs: 'value',
  'require-precondition': 'flag',
  'modified-column': 'value',
  'time-columns': 'value',
  'coordinate-epoch': 'value',
  readers: 'value',
  creators: 'value',
  editors: 'value',
  removers: 'value',
  audit: 'value',
  auditors: 'value',
} as const
type Options = Readonly<Partial<Record<keyof typeof OPTIONS, string>>>

/** Settings by their names on the command line. */
const SETTINGS: ReadonlyMap<string, SettingName> = new Map(
  SETTING_NAMES.map((name) => [flagOf(name).slice(2), name]),
)

export async function runCollections(args: readonly string[]) {
  const { config, options, positionals } = readConfig(args, OPTIONS)
  const work = planWork(positionals, options)
  await runAsOwner(config, work)
}

function planWork(
  [action, id, ...names]: readonly string[],
  options: Options,
): (session: Session) => Promise<void> {
  const given = settingsIn(options)
  const hasSettings = Object.keys(given).length > 0
  if (action === 'list' && id === undefined && !hasSettings) return list
  if (action === 'set' && id && names.length === 0 && hasSettings)
    return async (session) => {
      await setCollection(session, id, given)
      tellDone(id)
      if (given.readers || given.audit) await warnOfRoles(session, id)
      if (given.audit) await warnOfWriters(session, id)
    }
  if (action === 'reset' && id && !hasSettings) {
    const unknown = names.find((name) => !SETTINGS.has(name))
    if (unknown !== undefined)
      throw new ConfigError(
        `There is no setting ${unknown}; collections have ${[...SETTINGS.keys()].join(', ')}.`,
      )
    const reset = (names.length > 0 ? names : [...SETTINGS.keys()]).map((name) => SETTINGS.get(name)!)
    return async (session) => {
      await resetCollection(session, id, reset)
      tellDone(id)
    }
  }
  throw new ConfigError(
    'collections takes list, set NAME with what is set, or reset NAME: tessera collections set parcels --crs EPSG:25832',
  )
}

function settingsIn({
  crs,
  'require-precondition': requires,
  'modified-column': modifiedColumn,
  'time-columns': times,
  'coordinate-epoch': epoch,
  audit: level,
  auditors,
  ...groups
}: Options): CollectionSettings {
  const timeColumns = times?.split(',').map((name) => name.trim())
  if (timeColumns && (timeColumns.length > 2 || timeColumns.includes('')))
    throw new ConfigError(`--time-columns=${times}: must be one column, or two separated by a comma.`)
  if (epoch !== undefined && !/^\d{4}(\.\d{1,4})?$/.test(epoch))
    throw new ConfigError(`--coordinate-epoch=${epoch}: must be a year such as 2017.23.`)
  const audit = AUDIT_LEVELS.find((one) => one === level)
  if (level !== undefined && audit === undefined)
    throw new ConfigError(`--audit=${level}: must be ${AUDIT_LEVELS.join(' or ')}; reset takes it back.`)
  return {
    ...(audit === undefined ? {} : { audit }),
    ...(auditors === undefined ? {} : { auditors: parseRoles('auditors', auditors) }),
    ...(crs === undefined ? {} : { crs: settings.crs.parse(crs)! }),
    ...(requires === undefined ? {} : { requirePrecondition: requires === 'true' }),
    ...(modifiedColumn === undefined ? {} : { modifiedColumn }),
    ...(timeColumns === undefined ? {} : { timeColumns }),
    ...(epoch === undefined ? {} : { coordinateEpoch: Number(epoch) }),
    ...Object.fromEntries(
      GROUPS.flatMap((group) =>
        groups[group] === undefined ? [] : [[group, parseRoles(group, groups[group])]],
      ),
    ),
  }
}

/** Nobody but API keys is among those without a role. */
const NO_ROLE = 'none'

function parseRoles(group: Group | 'auditors', text: string): string[] {
  if (text === NO_ROLE) return []
  const roles = text.split(',').map((role) => role.trim())
  if (roles.every((role) => /^[^\p{C}]+$/u.test(role)) && !roles.includes(NO_ROLE)) return roles
  throw new ConfigError(
    `--${group}=${text}: must be roles separated by commas, or ${NO_ROLE} for API keys alone.`,
  )
}

const tellDone = (id: string) => process.stdout.write(`${id} is changed; gateways follow within a second.\n`)

async function warnOfRoles(session: Session, id: string) {
  for (const role of await rolesWithoutRules(session, id))
    process.stderr.write(
      `A gateway that reads as ${role} does not know this rule: grant usage on schema tessera and select on tessera.collection to it.\n`,
    )
}

async function warnOfWriters(session: Session, id: string) {
  for (const role of await rolesWithoutAudit(session, id))
    process.stderr.write(
      `A gateway that changes features as ${role} cannot write entries, and its changes will fail: grant usage on schema tessera and select, insert on tessera.audit to it.\n`,
    )
}

const shown = (value: CollectionSettings[SettingName]) =>
  Array.isArray(value) && value.length === 0 ? NO_ROLE : String(value ?? '')

async function list(session: Session) {
  const rows = (await listSettings(session)).map((settings) => [
    settings.id,
    ...SETTING_NAMES.map((name) => shown(settings[name])),
  ])
  writeTable([['COLLECTION', ...[...SETTINGS.keys()].map((name) => name.toUpperCase())], ...rows])
}
