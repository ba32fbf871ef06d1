// Owns the storing of many features in one change: a stream of features → batches → one transaction, all of them or none.

import type { Database, Query } from '../../database/contract.ts'
import {
  DatabaseFailure,
  isGeometryFailure,
  isProjectionFailure,
  RefusedChange,
} from '../../database/outcome.ts'
import type { Row, Statement } from '../../database/statement.ts'
import { type Fault, GatewayError, gatewayError } from '../../errors.ts'
import { type Author, compileEntry } from '../changes/audit.ts'
import { changeManyOnce, type Done, type IdempotencyKey } from '../changes/idempotency-key.ts'
import { type BodyReading, type ItemBody, invalidFeature, parseItemBody } from '../changes/item-body.ts'
import { outsideOf } from '../changes/item-change.ts'
import { type ChangeStatement, compileCreate, keptIn } from '../changes/item-statement.ts'
import { describeRefusal, notAllowed } from '../changes/refusal.ts'
import type { Collection } from '../collections/collection.ts'
import { cellOf } from '../sharding/cell.ts'
import { itemIdOf, makeLocalId } from '../sharding/feature-id.ts'
import { ExactNumber } from '../values/exact-json.ts'
import { describeValue, parseValue } from '../values/value.ts'
import { type CheckedFeature, compileBatch, isLocatedInSql, type Mode, shapeOf } from './batch-statement.ts'
import type { GivenFeature } from './feature-stream.ts'

/** What a client learns of a change of many features. */
export type Report = {
  /** Features that were created or replaced. */
  numberStored: number
  /** Features that were left out, with `handling=lenient`. */
  numberRefused: number
  /** Faults of the first features that were left out. */
  errors: Fault[]
}

export type ManyFeatures = {
  readonly collection: Collection
  readonly features: AsyncGenerator<GivenFeature[]>
  readonly mode: Mode
  /** If lenient, features with faults are left out, too. */
  readonly reading: BodyReading
  /** Reads what is left of the body. */
  readonly drain: () => Promise<void>
  /** Named in the audit. */
  readonly author: Author
}

/**
 * Features and bytes of a batch. A round trip and, on Citus, the start of a COPY for each shard are shared by so many; two
 * batches are in memory, one of which is being stored.
 */
const BATCH_FEATURES = 5_000
const BATCH_BYTES = 2 * 1024 * 1024
/** Different sets of columns in a batch, each of which needs a statement of its own. */
const MAX_SHAPES = 16
/** Most faults that are reported of features that were left out, and the length of one. */
const MAX_REPORTED = 100
const MAX_DETAIL = 300

/** Returns whether features can be stored with ids that exist. */
export const canUpsert = ({ level, takesIds, capabilities }: Collection) =>
  level === undefined && takesIds && capabilities?.canCreate === true && capabilities.canUpdate

/**
 * Stores the features of a body.
 * @throws GatewayError; then nothing has been stored
 */
export async function storeMany(
  database: Database,
  key: IdempotencyKey | undefined,
  { collection, features, mode, reading, drain, author }: ManyFeatures,
): Promise<Done> {
  const { isLenient, system } = reading
  const report: Report = { numberStored: 0, numberRefused: 0, errors: [] }
  const compile = (batch: readonly CheckedFeature[]) => compileBatch(collection, batch, system, mode, author)
  const refuse = (error: GatewayError, faults: readonly Fault[]) => {
    if (!isLenient) throw refused(error, faults)
    report.numberRefused++
    for (const fault of faults)
      if (report.errors.length < MAX_REPORTED)
        report.errors.push({ ...fault, detail: fault.detail.slice(0, MAX_DETAIL) })
  }
  const batches = batchesOf(features, collection, mode, reading, refuse)
  const finder = { database, collection, mode, reading, compile, author }

  /** Stores a batch; its faults end the change. */
  const storeAll = async (query: Query, batch: readonly CheckedFeature[]) => {
    let count: number
    try {
      count = countOf(await query(compile(batch)))
    } catch (error) {
      throw isRefused(error) ? new RefusedBatch(batch, error as DatabaseFailure) : error
    }
    if (count < batch.length) throw notAllowed()
    report.numberStored += count
  }
  const storeValid = async (query: Query, batch: readonly CheckedFeature[]) => {
    report.numberStored += await storeWithout(finder, query, batch, refuse)
  }
  const store = async (query: Query, batch: readonly CheckedFeature[][]) => {
    for (const part of batch) await (isLenient ? storeValid : storeAll)(query, part)
  }

  let begun: Begun | undefined
  const begin = async () => {
    const { value } = await batches.next()
    begun = { first: value, report: structuredClone(report), hasContinued: false }
  }
  const make = async (query: Query) => {
    if (!begun || begun.hasContinued)
      throw gatewayError(
        'database-unavailable',
        'The connection to the database was lost in the middle of the body, and nothing has been stored; send it again.',
      )
    Object.assign(report, structuredClone(begun.report))
    let running = settled(store(query, begun.first.parts))
    for (let { isLast } = begun.first; !isLast; ) {
      begun.hasContinued = true
      const next = batches.next()
      next.catch(() => {})
      // If a batch fails, nothing waits for the client to send the next one.
      const { value } = (await Promise.race([next, running.then(() => next)])) as IteratorResult<Batch, never>
      await running
      isLast = value.isLast
      running = settled(store(query, value.parts))
    }
    await running
    if (report.numberStored === 0) throw nothingStored(report)
    return { kind: 'many' as const, report: JSON.stringify(report) }
  }
  try {
    return await changeManyOnce(database, key, collection, { stream: { drain, begin }, make })
  } catch (error) {
    if (!(error instanceof RefusedBatch)) throw error
    throw await findFault(finder, error)
  } finally {
    // It may wait for bytes that do not come.
    batches.return(undefined as never).catch(() => {})
  }
}

/** What was read of a body before its transaction began, so that it can begin again. */
type Begun = { readonly first: Batch; readonly report: Report; hasContinued: boolean }

/** Lets a promise be awaited later: until then, its failure is no unhandled one. */
function settled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}

/** Features that are stored together; those of each part have the same columns. */
type Batch = { readonly parts: CheckedFeature[][]; readonly isLast: boolean }

/** @param refuse takes the faults of a feature; throws if they end the change */
async function* batchesOf(
  features: AsyncGenerator<GivenFeature[]>,
  collection: Collection,
  mode: Mode,
  reading: BodyReading,
  refuse: (error: GatewayError, faults: readonly Fault[]) => void,
): AsyncGenerator<Batch, never> {
  let parts = new Map<string, CheckedFeature[]>()
  let ids = new Set<string>()
  let count = 0
  let bytes = 0
  const take = (isLast: boolean): Batch => {
    const batch = { parts: [...parts.values()], isLast }
    parts = new Map()
    ids = new Set()
    count = bytes = 0
    return batch
  }
  for await (const given of features) {
    for (const one of given) {
      const checked = checkFeature(one, collection, mode, reading, refuse)
      if (!checked) continue
      const shape = shapeOf(checked.body)
      const isRepeated = mode === 'upsert' && ids.has(checked.body.id!)
      const isFull = count >= BATCH_FEATURES || bytes >= BATCH_BYTES
      if (isFull || isRepeated || (parts.size >= MAX_SHAPES && !parts.has(shape))) yield take(false)
      const part = parts.get(shape)
      if (part) part.push(checked)
      else parts.set(shape, [checked])
      if (mode === 'upsert') ids.add(checked.body.id!)
      count++
      bytes += bytesOf(checked.body)
    }
  }
  yield take(true)
  throw new Error('the last batch has been taken already')
}

/** Returns about how many bytes a feature has in a statement. */
function bytesOf({ geometry, assignments }: ItemBody): number {
  let bytes = geometry?.text.length ?? 0
  for (const { value } of assignments)
    bytes += typeof value === 'string' ? value.length : value === null ? 4 : JSON.stringify(value).length
  return bytes
}

/** Checks a feature as a body of its own is checked. @returns undefined if it is left out */
function checkFeature(
  { body: given, problem, pointer, line }: GivenFeature,
  collection: Collection,
  mode: Mode,
  reading: BodyReading,
  refuse: (error: GatewayError, faults: readonly Fault[]) => void,
): CheckedFeature | undefined {
  const at = (fault: Fault): Fault => ({
    pointer: pointer + fault.pointer,
    detail: fault.detail,
    ...(line === undefined ? {} : { line }),
  })
  try {
    if (problem !== undefined)
      throw gatewayError('feature-invalid', problem, { errors: [{ pointer: '', detail: problem }] })
    // With an id that is sent, as PUT has it in its URL, the collection may give ids by itself.
    const id = mode === 'upsert' ? idToPut(given?.id, collection) : undefined
    const body = parseItemBody(given, collection, 'create', id, reading)
    const { level } = collection
    if (level === undefined) return { body, cell: undefined, pointer, line }
    const local = makeLocalId()
    if (isLocatedInSql(collection, reading.system))
      return { body: { ...body, id: local }, cell: undefined, pointer, line }
    const cell = cellOf(body.geometry?.extent, level)
    return { body: { ...body, id: itemIdOf(cell, local) }, cell, pointer, line }
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'feature-invalid') throw error
    refuse(error, (error.facts.errors as readonly Fault[]).map(at))
    return undefined
  }
}

/** Returns the id of a feature that a client has chosen. @throws GatewayError feature-invalid */
function idToPut(given: unknown, { idColumn }: Collection): string {
  const text = typeof given === 'number' || given instanceof ExactNumber ? String(given) : given
  const id = typeof text === 'string' ? parseValue(text, idColumn!) : undefined
  if (id !== undefined) return id
  const { expected, example } = describeValue(idColumn!)
  const detail = `${given === undefined ? 'is missing: with mode=upsert it' : ''} must be ${expected}, for example ${JSON.stringify(example)}`
  throw invalidFeature([{ pointer: '/id', detail: detail.trim() }])
}

type Finder = {
  readonly database: Database
  readonly collection: Collection
  readonly mode: Mode
  readonly reading: BodyReading
  readonly author: Author
  readonly compile: (batch: readonly CheckedFeature[]) => Statement
}

/** A batch with a feature that the database refuses. */
class RefusedBatch extends Error {
  readonly batch: readonly CheckedFeature[]
  readonly failure: DatabaseFailure
  constructor(batch: readonly CheckedFeature[], failure: DatabaseFailure) {
    super(failure.message, { cause: failure })
    this.batch = batch
    this.failure = failure
  }
}

/** Returns true if a rule of the table, or PostGIS, has refused a feature. */
const isRefused = (error: unknown) =>
  error instanceof DatabaseFailure &&
  error.outcome === 'final' &&
  (error.answer instanceof RefusedChange || isGeometryFailure(error.answer))

const SAVEPOINT: Statement = { text: 'savepoint batch', values: [] }
const RELEASE: Statement = { text: 'release savepoint batch', values: [] }
const ROLL_BACK: Statement = { text: 'rollback to savepoint batch', values: [] }

const countOf = ([row]: readonly Row[]) => Number(row![0])

/**
 * Stores a batch without the features that the database refuses: it is halved until each of these is alone.
 * @returns the number of features that were stored
 */
async function storeWithout(
  finder: Finder,
  query: Query,
  batch: readonly CheckedFeature[],
  refuse: (error: GatewayError, faults: readonly Fault[]) => void,
): Promise<number> {
  const { collection, reading, author, mode, compile } = finder
  const [first] = batch as [CheckedFeature]
  const isAlone = batch.length === 1
  // The statement of a single feature has a parameter for each property, which an error then names.
  const single: ChangeStatement | undefined =
    isAlone && mode === 'insert' && !isLocatedInSql(collection, reading.system)
      ? compileCreate(collection, 'stored', first.body, first.cell)
      : undefined
  const [begun, stored, released] = await Promise.allSettled([
    query(SAVEPOINT),
    query(single?.statement ?? compile(batch)),
    query(RELEASE),
  ])
  if (stored.status === 'fulfilled' && begun.status === 'fulfilled' && released.status === 'fulfilled') {
    const count = single ? stored.value.length : countOf(stored.value)
    // The statement of a single feature writes no entry.
    if (single && collection.audit !== undefined)
      for (const row of stored.value)
        await query(
          compileEntry(collection, author, {
            action: 'created',
            id: row[0]!,
            before: undefined,
            after: keptIn(row),
          }),
        )
    // A trigger or row-level security has left out some, without an error that says which.
    for (let missing = batch.length - count; missing > 0; missing--)
      refuse(notAllowed(), isAlone ? [faultAt(first, notAllowed().message)] : [])
    return count
  }
  const failed = [begun, stored, released].find(
    ({ status }) => status === 'rejected',
  ) as PromiseRejectedResult
  if (!isRefused(failed.reason)) throw failed.reason
  await query(ROLL_BACK)
  await query(RELEASE)
  if (isAlone) {
    const change = single ?? {
      statement: compile(batch),
      targets: [],
      isRemoval: false,
      condition: undefined,
    }
    const error = await describe(finder, failed.reason as DatabaseFailure, change)
    const faults = (error.facts.errors as readonly Fault[] | undefined) ?? [
      { pointer: '', detail: error.message },
    ]
    refuse(
      error,
      faults.map(({ pointer, detail }) => ({ ...faultAt(first, detail), pointer: first.pointer + pointer })),
    )
    return 0
  }
  const half = batch.length >> 1
  const before = await storeWithout(finder, query, batch.slice(0, half), refuse)
  return before + (await storeWithout(finder, query, batch.slice(half), refuse))
}

const faultAt = ({ pointer, line }: CheckedFeature, detail: string): Fault => ({
  pointer,
  detail,
  ...(line === undefined ? {} : { line }),
})

/** Returns the error for a change that the database refuses. @throws GatewayError if the feature is not at fault */
async function describe(
  { database, collection, reading }: Finder,
  { answer }: DatabaseFailure,
  change: ChangeStatement,
): Promise<GatewayError> {
  if (answer instanceof RefusedChange) {
    const error = await describeRefusal(answer, collection, change, database)
    if (error.code === 'collection-changing') throw error
    return error
  }
  const detail = isProjectionFailure(answer)
    ? outsideOf(reading.system)
    : `was refused by the database: ${answer.message}`
  return gatewayError('feature-invalid', detail, { errors: [{ pointer: '/geometry', detail }] })
}

/**
 * Returns the error for a batch that was refused, which names the first feature at fault: the batch is stored again in a
 * transaction that is rolled back in any case.
 */
async function findFault(finder: Finder, { batch, failure }: RefusedBatch): Promise<Error> {
  const { database, compile } = finder
  try {
    await database.transact(async (query) => {
      await storeWithout(finder, query, batch, (error, faults) => {
        throw refused(error, faults)
      })
      throw new NothingFound()
    })
  } catch (error) {
    if (!(error instanceof NothingFound)) return error as Error
  }
  // The feature is in conflict with another one of the body, whose batch was stored before.
  const change = { statement: compile(batch), targets: [], isRemoval: false, condition: undefined }
  const error = await describe(finder, failure, change)
  const faults = (error.facts.errors as readonly Fault[] | undefined) ?? []
  return gatewayError(
    error.code,
    `One of the features from ${batch[0]!.pointer} to ${batch.at(-1)!.pointer} is in conflict with another one of the body. ${error.message} ${NOTHING}`,
    { ...error.facts, errors: faults },
    error,
  )
}
class NothingFound extends Error {}

const NOTHING = 'Nothing was stored; with Prefer: handling=lenient such features are left out.'

function refused(error: GatewayError, faults: readonly Fault[]): GatewayError {
  const [first] = faults
  const others = faults.length > 1 ? ` (and ${faults.length - 1} more)` : ''
  const what = first ? `${first.pointer} ${first.detail}${others}`.replace(/\.$/, '') : error.message
  const where = first?.line === undefined ? '' : `Line ${first.line}: `
  return gatewayError(error.code, `${where}${what}. ${NOTHING}`, { ...error.facts, errors: faults }, error)
}

const nothingStored = ({ numberRefused, errors }: Report) =>
  numberRefused === 0
    ? gatewayError('feature-invalid', 'The body has no feature; nothing was stored.', {
        errors: [{ pointer: '', detail: 'has no feature' }],
      })
    : gatewayError(
        'feature-invalid',
        `None of the ${numberRefused} features of the body is valid; nothing was stored.`,
        { errors },
      )
