// Owns transactions: actions in several collections, which take effect together or not at all.

import type { Database, Query } from '../../database/contract.ts'
import { type Fault, GatewayError, gatewayError, MAX_FAULTS, pointerOf } from '../../errors.ts'
import type { Collection } from '../collections/collection.ts'
import type { FilterFunctions } from '../filter/functions.ts'
import type { GeometryForm } from '../formats/encoder.ts'
import type { Unshown } from '../query/unshown.ts'
import type { CoordinateSystem } from '../values/coordinate-system.ts'
import type { Author } from './audit.ts'
import { changeManyOnce, type Done, type IdempotencyKey, isVerdict } from './idempotency-key.ts'
import { invalidFeature } from './item-body.ts'
import {
  type Attempt,
  attemptWithin,
  describeFailure,
  type ItemPlan,
  isUnshowable,
  makeItemPlans,
} from './item-change.ts'
import type { ChangeStatement } from './item-statement.ts'
import type { Precondition } from './precondition.ts'
import { parseSelectionPatch, planSelection, planSelectionChange } from './selection-change.ts'
import { type Action, type ActionKind, invalidTransaction, type NewValue } from './transaction-body.ts'

/** An action that its caller may do. */
export type AllowedAction = {
  readonly action: Action
  readonly collection: Collection
  /** What a feature that it names must be. */
  readonly condition: Precondition
  /** The system of its coordinates. */
  readonly system: CoordinateSystem
}

export type TransactionOptions = {
  readonly unshown: Unshown
  readonly functions: FilterFunctions
  /** Most features that an action changes by a condition. */
  readonly most: number
  readonly isLenient: boolean
  /** Named in the audit. */
  readonly author: Author
}

/** A feature that was inserted, or that an action has named. */
export type ChangedItem = {
  readonly kind: ActionKind
  readonly collection: string
  readonly id: string
  /** Undefined if it was removed. */
  readonly version?: string | undefined
  /** The feature as it is afterwards, if it is shown. */
  readonly text?: string | undefined
}

/** What a client learns of a transaction. */
export type TransactionReport = {
  /** How many features were changed by each kind of action; those that meet conditions are counted alone. */
  readonly counts: Readonly<Record<ActionKind, number>>
  /** In the order in which they were changed. */
  readonly items: readonly ChangedItem[]
}

/** A part of an action: a change of one feature, or of all that meet a condition. */
export type Step = {
  readonly action: Action
  readonly place: Place
  readonly make: (attempt: Attempt) => Promise<{ readonly count: number; readonly item?: ChangedItem }>
  /** Returns an error of the step for its client. */
  readonly describe: (error: unknown, latest: ChangeStatement | undefined) => Promise<unknown>
}

/** The place of a part of an action in the body. */
type Place = {
  readonly pointer: string
  /** Returns the pointer to what is at this pointer in the feature, or in the patch, that the part stands for. */
  readonly of: (pointer: string) => string
}

/** Bytes of features in an answer: as many as some pages have. Further ones are left out; each has its address. */
const MAX_SHOWN_BYTES = 4 * 1024 * 1024

/** Checks the bodies of actions. @throws GatewayError, feature-invalid with the faults of all of them */
export async function planTransaction(
  database: Database,
  allowed: readonly AllowedAction[],
  options: TransactionOptions,
): Promise<Step[]> {
  const faults: Fault[] = []
  const steps: Step[] = []
  for (const one of allowed)
    for (const { place, plan } of partsOf(database, one, options))
      try {
        steps.push({ action: one.action, place, ...(await plan()) })
      } catch (error) {
        if (!(error instanceof GatewayError)) throw error
        const placed = inTransaction(error, one.action, place)
        if (error.code !== 'feature-invalid') throw placed
        faults.push(...(placed.facts.errors as readonly Fault[]))
        if (faults.length > MAX_FAULTS) throw invalidFeature(faults.slice(0, MAX_FAULTS), true)
      }
  if (faults.length > 0) throw invalidFeature(faults)
  return steps
}

type Planned = Pick<Step, 'make' | 'describe'>
type Part = { readonly place: Place; readonly plan: () => Promise<Planned> }

function partsOf(database: Database, allowed: AllowedAction, options: TransactionOptions): Part[] {
  const { action, collection, condition, system } = allowed
  const { pointer, deed } = action
  const { unshown, functions, most, isLenient, author } = options
  const reading = { system, isLenient }
  const plans = makeItemPlans(database, unshown, author, reading)
  /** @param id that of a feature which exists */
  const ofItem = (plan: ItemPlan, id = ''): Planned => ({
    async make(attempt) {
      const result = await plan.make(attempt)
      for (const entry of plan.entriesOf(attempt, result)) await attempt.query(entry)
      const { item } = result
      const { version, text } = item ?? {}
      return {
        count: 1,
        item: { kind: deed.kind, collection: collection.id, id: item?.id ?? id, version, text },
      }
    },
    describe: (error, latest) => describeFailure(error, { database, collection, system }, latest),
  })
  if (deed.kind === 'insert')
    return deed.features.map((feature, index) => ({
      place: at(`${pointer}/items/${index}`),
      plan: async () => ofItem(await plans.create(collection, feature)),
    }))
  if (deed.kind === 'replace') {
    const [id] = deed.chosen.ids as [string]
    const place = { pointer: `${pointer}/filter/ids/0`, of: at(`${pointer}/properties/feature`).of }
    const plan = () => plans.replace(collection, id, deed.feature, condition, 'missing')
    return [{ place, plan: async () => ofItem(await plan(), id) }]
  }
  const patch = deed.kind === 'update' ? patchOf(deed.values, collection) : undefined
  const placeOf = (selecting: string): Place => ({
    pointer: selecting,
    of: (within) => patch?.find(within) ?? selecting,
  })
  const { chosen } = deed
  if ('ids' in chosen)
    return chosen.ids.map((id, index) => {
      const plan = () =>
        patch ? plans.update(collection, id, patch.body, condition) : plans.remove(collection, id, condition)
      return {
        place: placeOf(`${pointer}/filter/ids/${index}`),
        plan: async () => ofItem(await plan(), id),
      }
    })
  const plan = async (): Promise<Planned> => {
    const body = patch && parseSelectionPatch(patch.body, collection, reading)
    const selection = await planSelection(database, chosen.filter, collection, functions)
    const change = planSelectionChange(selection, body, most, author)
    return {
      make: async ({ query }) => ({ count: (await change.make(query)).numberChanged }),
      describe: (error) => change.describe(error, database),
    }
  }
  return [{ place: placeOf(`${pointer}/filter`), plan }]
}

const at = (pointer: string): Place => ({ pointer, of: (within) => pointer + within })

/**
 * Returns the merge patch for the new values of an action. The geometry has the name of its member, or of its column.
 * @throws GatewayError transaction-invalid
 */
function patchOf(values: readonly NewValue[], { properties, geometry: { column } }: Collection) {
  const names = new Set(properties.map(({ name }) => name))
  const places = new Map<string, string>()
  const members: [string, unknown][] = []
  let geometry: object = {}
  for (const { name, value, pointer } of values) {
    const isGeometry = !names.has(name) && (name === 'geometry' || name === column)
    const member = isGeometry ? '/geometry' : pointerOf('properties', name)
    if (places.has(member))
      throw invalidTransaction([
        { pointer, detail: 'is a geometry, which another name in this action has set' },
      ])
    places.set(member, pointer)
    if (isGeometry) geometry = { geometry: value }
    else members.push([name, value])
  }
  return {
    body: { ...geometry, properties: Object.fromEntries(members) },
    /** Returns where a part of the patch is in the body; undefined for what it does not have. */
    find(pointer: string) {
      for (const [member, place] of places)
        if (pointer === member || pointer.startsWith(`${member}/`))
          return place + pointer.slice(member.length)
      return undefined
    },
  }
}

/**
 * Makes all steps of a transaction, or none.
 * @param isShown true if the report has the features as they are afterwards
 * @throws GatewayError; then nothing has changed
 */
export async function makeTransaction(
  database: Database,
  key: IdempotencyKey | undefined,
  steps: readonly Step[],
  isShown: boolean,
  form: GeometryForm = 'converted',
): Promise<Done> {
  /** The step that is under way, and its statement that was sent last. */
  const current: { step?: Step | undefined; latest?: ChangeStatement | undefined } = {}
  const make = async (query: Query) => {
    const counts = { insert: 0, replace: 0, update: 0, delete: 0 }
    const items: ChangedItem[] = []
    let bytes = 0
    const note = (change: ChangeStatement) => {
      current.latest = change
      return change.statement
    }
    for (const step of steps) {
      Object.assign(current, { step, latest: undefined })
      const { count, item } = await step.make(attemptWithin(query, form, note))
      counts[step.action.deed.kind] += count
      if (!item) continue
      const { text = '', ...others } = item
      bytes += isShown ? Buffer.byteLength(text) : 0
      items.push(isShown && text !== '' && bytes <= MAX_SHOWN_BYTES ? item : others)
    }
    current.step = undefined
    const report: TransactionReport = { counts, items }
    const kept = { counts, items: items.map(({ text, ...others }) => others) }
    return { kind: 'many' as const, report: JSON.stringify(report), kept: JSON.stringify(kept) }
  }
  try {
    return await changeManyOnce(database, key, undefined, { make })
  } catch (error) {
    const { step, latest } = current
    if (!step) throw error
    if (isUnshowable(error, form)) return makeTransaction(database, key, steps, isShown, 'stored')
    const described = await step.describe(error, latest)
    throw isOfStep(described) ? inTransaction(described, step.action, step.place) : described
  }
}

/** True for an error about what a step does, unlike one of the way to the database, or of the key. */
const isOfStep = (error: unknown): error is GatewayError =>
  error instanceof GatewayError &&
  (isVerdict(error) || error.code === 'collection-changing' || error.code === 'parameter-invalid')

/** Returns an error of an action as one of its transaction: its faults have their places in the body. */
export function inTransaction(
  error: GatewayError,
  { pointer, name }: Action,
  place = at(pointer),
): GatewayError {
  const { errors: given, parameter, example, ...others } = error.facts
  // A filter is a parameter elsewhere; here it is a member.
  const isMember = error.code === 'parameter-invalid'
  const own = isMember ? `${pointer}/${parameter}` : place.pointer
  const detail = error.message.replace(/\.$/, '')
  const errors: readonly Fault[] = Array.isArray(given)
    ? (given as readonly Fault[]).map((fault) => ({ ...fault, pointer: place.of(fault.pointer) }))
    : [{ pointer: own, detail }]
  const [first] = errors as readonly [Fault]
  const rest = errors.length > 1 ? ` (and ${errors.length - 1} more)` : ''
  const what = Array.isArray(given)
    ? `${first.pointer} ${first.detail.replace(/\.$/, '')}${rest}`
    : `${own}: ${detail}`
  return gatewayError(
    isMember ? 'transaction-invalid' : error.code,
    `${what}. Nothing has changed.`,
    { ...others, ...(name === undefined ? {} : { action: name }), errors },
    error,
  )
}
