// Owns the body of a transaction (draft of OGC API Features, Part 11): JSON → its actions, or all faults at once.

import { type Fault, invalidBody, MAX_FAULTS, pointerOf } from '../../errors.ts'
import type { FilterParameters } from '../filter/filter.ts'
import { ExactNumber, isObject, type JsonObject } from '../values/exact-json.ts'

/** The features that an action concerns: those with these ids, or all that meet a condition. */
export type Chosen = { readonly ids: readonly string[] } | { readonly filter: FilterParameters }

/** A new value of a property; null removes the one that is there. */
export type NewValue = { readonly name: string; readonly value: unknown; readonly pointer: string }

/** What an action does. */
export type Deed =
  | { readonly kind: 'insert'; readonly features: readonly unknown[] }
  | {
      readonly kind: 'replace'
      readonly chosen: { readonly ids: readonly string[] }
      readonly feature: unknown
    }
  | { readonly kind: 'update'; readonly chosen: Chosen; readonly values: readonly NewValue[] }
  | { readonly kind: 'delete'; readonly chosen: Chosen }

export type Action = {
  /** JSON pointer to the action. */
  readonly pointer: string
  /** Name that the client has given it; undefined for none. */
  readonly name: string | undefined
  readonly collection: string
  /** As in the header: tags of the feature as it was read, or an asterisk. */
  readonly ifMatch: string | undefined
  readonly deed: Deed
}

export type ActionKind = Deed['kind']
const KINDS: readonly ActionKind[] = ['insert', 'replace', 'update', 'delete']
/**
 * Most features that actions name or insert, and most actions. Each is a statement with a round trip, while the rows that
 * were changed before stay locked. More features belong into one body of features, or under one condition.
 */
export const MAX_STEPS = 1_000

const DESCRIPTION = ['id', 'title', 'description']
const SELECTING = ['filter', 'filter-lang', 'filter-crs', 'if-match']
const MEMBERS: Readonly<Record<ActionKind, readonly string[]>> = {
  insert: ['items'],
  replace: ['properties', ...SELECTING],
  update: ['properties', ...SELECTING],
  delete: SELECTING,
}

export const invalidTransaction = (faults: readonly Fault[], hasMore = false) =>
  invalidBody('transaction-invalid', faults, hasMore)

type Report = (pointer: string, detail: string) => undefined

/** @throws GatewayError transaction-invalid */
export function parseTransaction(body: unknown): Action[] {
  const faults: Fault[] = []
  const report: Report = (pointer, detail) => {
    if (faults.length === MAX_FAULTS) throw invalidTransaction(faults, true)
    faults.push({ pointer, detail })
  }
  const actions = readTransaction(body, report)
  if (faults.length > 0) throw invalidTransaction(faults)
  return actions
}

function readTransaction(body: unknown, report: Report): Action[] {
  if (!isObject(body)) {
    report('', 'must be an object with transaction, a list of actions')
    return []
  }
  checkMembers(body, '', ['semantic', 'transaction', ...DESCRIPTION], report)
  if (body.semantic !== undefined && body.semantic !== 'atomic')
    report('/semantic', 'must be "atomic", or left out: all actions take effect, or none')
  const { transaction } = body
  if (!Array.isArray(transaction) || transaction.length === 0) {
    report('/transaction', 'must be a list of actions')
    return []
  }
  if (transaction.length > MAX_STEPS) {
    report('/transaction', `must have at most ${MAX_STEPS} actions`)
    return []
  }
  const actions = transaction.flatMap(
    (given, index) => readAction(given, `/transaction/${index}`, report) ?? [],
  )
  const steps = actions.reduce((sum, { deed }) => sum + stepsOf(deed), 0)
  if (steps > MAX_STEPS)
    report(
      '/transaction',
      `concerns ${steps} features, and at most ${MAX_STEPS} can be inserted, or named by their ids, in one transaction`,
    )
  return actions
}

const stepsOf = (deed: Deed) =>
  deed.kind === 'insert' ? deed.features.length : 'ids' in deed.chosen ? deed.chosen.ids.length : 1

function readAction(given: unknown, pointer: string, report: Report): Action | undefined {
  if (!isObject(given)) return report(pointer, 'must be an object with action and collection')
  const kind = KINDS.find((name) => name === given.action)
  if (!kind)
    return report(`${pointer}/action`, `must be ${KINDS.map((name) => JSON.stringify(name)).join(' or ')}`)
  checkMembers(given, pointer, ['action', 'collection', ...DESCRIPTION, ...MEMBERS[kind]], report)
  const { id, collection, 'if-match': ifMatch } = given
  if (typeof collection !== 'string' || collection === '')
    return report(`${pointer}/collection`, 'must be the id of a collection')
  if (id !== undefined && typeof id !== 'string') report(`${pointer}/id`, 'must be a text')
  if (ifMatch !== undefined && typeof ifMatch !== 'string')
    return report(
      `${pointer}/if-match`,
      'must be the ETag of the feature as it was read, in its quotes, or "*"',
    )
  const deed = readDeed(kind, given, pointer, report)
  return deed && { pointer, name: typeof id === 'string' ? id : undefined, collection, ifMatch, deed }
}

function readDeed(kind: ActionKind, given: JsonObject, pointer: string, report: Report): Deed | undefined {
  if (kind === 'insert') {
    const { items } = given
    if (Array.isArray(items) && items.length > 0) return { kind, features: items }
    return report(`${pointer}/items`, 'must be a list of GeoJSON features')
  }
  const chosen = readChosen(given, pointer, report)
  if (kind === 'delete') return chosen && { kind, chosen }
  const { properties } = given
  if (!isObject(properties))
    return report(
      `${pointer}/properties`,
      kind === 'replace' ? 'must be an object with feature' : 'must be an object with add, modify or delete',
    )
  const within = `${pointer}/properties`
  if (kind === 'update') {
    const values = readValues(properties, within, report)
    return chosen && { kind, chosen, values }
  }
  checkMembers(properties, within, ['feature'], report)
  if (!chosen) return undefined
  if (!('ids' in chosen) || chosen.ids.length !== 1)
    return report(
      `${pointer}/filter`,
      'must have the id of the feature that is replaced, as in {"ids": ["1"]}',
    )
  return { kind, chosen, feature: properties.feature }
}

function readChosen(given: JsonObject, pointer: string, report: Report): Chosen | undefined {
  const { filter, 'filter-lang': language, 'filter-crs': system } = given
  if (isObject(filter) && 'ids' in filter) {
    checkMembers(filter, `${pointer}/filter`, ['ids'], report)
    const ids = Array.isArray(filter.ids) ? filter.ids.map(idOf) : []
    if (ids.length > 0 && ids.every((id) => id !== undefined)) return { ids }
    return report(`${pointer}/filter/ids`, 'must be a list of ids of features')
  }
  const isText = typeof filter === 'string'
  if (!isText && !isObject(filter) && typeof filter !== 'boolean')
    return report(
      `${pointer}/filter`,
      'must be the ids of features, as in {"ids": ["1"]}, or a condition in CQL2; true selects all features',
    )
  if (language !== undefined && language !== 'cql2-json' && !(isText && language === 'cql2-text'))
    return report(
      `${pointer}/filter-lang`,
      isText ? 'must be "cql2-text" or "cql2-json"' : 'must be "cql2-json"',
    )
  if (system !== undefined && typeof system !== 'string')
    return report(`${pointer}/filter-crs`, 'must be the URI of a coordinate system')
  // The draft's default is JSON. In text, no condition begins with a brace.
  const isJson = !isText || language === 'cql2-json' || (language === undefined && /^\s*\{/.test(filter))
  return {
    filter: {
      filter: isText ? filter : JSON.stringify(filter),
      'filter-lang': isJson ? 'cql2-json' : 'cql2-text',
      ...(system === undefined ? {} : { 'filter-crs': system }),
    },
  }
}

/** Returns an id as its address has it. */
const idOf = (given: unknown) =>
  typeof given === 'string'
    ? given
    : typeof given === 'number' || given instanceof ExactNumber
      ? String(given)
      : undefined

/** Reads the lists of an update: `add` and `modify` set a value, and `delete` removes one. */
function readValues(properties: JsonObject, pointer: string, report: Report): NewValue[] {
  checkMembers(properties, pointer, ['add', 'modify', 'delete'], report)
  const values: NewValue[] = []
  const named = new Set<string>()
  const take = (name: unknown, value: unknown, at: string, atName: string) => {
    if (typeof name !== 'string') return report(atName, 'must be the name of a property')
    if (named.has(name)) return report(atName, 'is named before in this action')
    named.add(name)
    values.push({ name, value, pointer: at })
  }
  for (const list of ['add', 'modify', 'delete']) {
    const given = properties[list]
    if (given === undefined) continue
    if (!Array.isArray(given)) {
      report(`${pointer}/${list}`, 'must be a list')
      continue
    }
    for (const [index, one] of given.entries()) {
      const at = `${pointer}/${list}/${index}`
      if (list === 'delete') take(one, null, at, at)
      else if (!isObject(one) || one.value === undefined) report(at, 'must be an object with name and value')
      else {
        checkMembers(one, at, ['name', 'value'], report)
        take(one.name, one.value, `${at}/value`, `${at}/name`)
      }
    }
  }
  if (values.length === 0) report(pointer, 'must have a property in add, modify or delete')
  return values
}

function checkMembers(given: JsonObject, pointer: string, known: readonly string[], report: Report) {
  for (const name of Object.keys(given))
    if (!known.includes(name))
      report(pointer + pointerOf(name), `is not known here; known are ${known.join(', ')}`)
}
