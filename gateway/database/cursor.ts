// Owns long results, which are read through a cursor, batch by batch, at the pace of the reader as long as it keeps up.

import type { Admission } from './admission.ts'
import type { Caller, StreamOptions } from './contract.ts'
import { AnswerTooLong } from './exchange.ts'
import type { Lease } from './lease.ts'
import { DatabaseFailure } from './outcome.ts'
import type { Attempt, Reader } from './reader.ts'
import { meanBytes, type Row, type Statement } from './statement.ts'

/** Most rows of the first batch: few, so that the first byte leaves early. Each batch is at most twice the one before. */
const FIRST_BATCH_ROWS = 16
/** Bytes of a later batch: enough to amortize a round trip, and little memory. */
const BATCH_BYTES = 512 * 1024
const MAX_BATCH_ROWS = 2_000
/** Bytes of a batch after which its further rows are dropped: large rows can follow small ones. */
const MAX_BATCH_BYTES = 8 * 1024 * 1024
/** The same for a result that is read completely or not at all. It grows its batches more slowly, so this is seldom met. */
const MAX_BATCH_BYTES_OF_WHOLE = 64 * 1024 * 1024
/**
 * How long the reader may let batches wait, all together. After that the connection goes to others: an open transaction
 * holds back vacuum, and few streams run at once.
 */
const MAX_BACKPRESSURE_MS = 5_000
/** The same while other streams wait for a place. */
const CONTESTED_BACKPRESSURE_MS = 1_000
/**
 * The same while other streams wait, for a result that is read completely or not at all. Otherwise such a reader keeps its
 * connection as long as its answer may take: there are few of them.
 */
const CONTESTED_BACKPRESSURE_OF_WHOLE_MS = 30_000
/** Interval at which it is checked how long a batch has waited. */
const CHECK_MS = 250

const BEGIN: Statement = { text: 'begin read only', values: [] }

/**
 * Returns the rows in batches. If the iteration ends early, the connection is freed.
 * @returns true if it stopped before the last row: the reader was too slow, or a batch was too large
 * @throws GatewayError
 */
export async function* stream(
  reader: Reader,
  statement: Statement,
  { consistency, client, claims }: Caller,
  { signal, rowBytes, isWhole = false }: StreamOptions,
): AsyncGenerator<Row[], boolean> {
  const requirement = await reader.require(statement.cells, consistency)
  const mostBytes = isWhole ? MAX_BATCH_BYTES_OF_WHOLE : MAX_BATCH_BYTES
  const firstRows = Math.min(FIRST_BATCH_ROWS, rowsOf(rowBytes ?? 1))
  const begin = async (lease: Lease, patienceMs: number | undefined) => {
    // The check comes first and by itself: a cursor that is open cannot be repeated.
    await reader.catchUp(lease, requirement, patienceMs, async () => {})
    // Each fetch is a statement, not part of a suspended portal: statement_timeout then limits each fetch and not the
    // time that a slow reader takes between two of them.
    await lease.query(
      { text: `declare page no scroll cursor for ${statement.text}`, values: statement.values },
      { claims, opening: BEGIN },
    )
    const first = await fetch(lease, firstRows, mostBytes)
    await reader.note(lease, requirement)
    return { lease, first }
  }
  const run: Attempt<Begun> = async (endpoint, patienceMs) => {
    const admission = endpoint.admissions.stream
    const leave = await admission.enter({ client, priority: 'usual', signal })
    try {
      return { admission, leave, ...(await endpoint.begin((lease) => begin(lease, patienceMs), signal)) }
    } catch (error) {
      leave()
      throw error
    }
  }
  const { admission, lease, first, leave } = await reader.choose(requirement, run, signal)
  let givenBack: Promise<void> | undefined
  const giveBack = () => {
    givenBack ??= lease.release('rollback').then(leave)
    return givenBack
  }
  /** How long the reader has let earlier batches wait. */
  let waitedMs = 0
  let timer: NodeJS.Timeout | undefined
  /** Gives the connection back if the reader lets a batch wait for too long. */
  const watch = (start: number) => {
    timer = setInterval(() => {
      const patienceMs = patienceOf(admission.waiting > 0, isWhole)
      if (waitedMs + performance.now() - start > patienceMs) giveBack()
    }, CHECK_MS)
  }
  try {
    let asked = firstRows
    for (let batch = first; ; batch = await fetch(lease, asked, mostBytes)) {
      const { rows, isCut } = batch
      if (rows.length > 0) {
        const start = performance.now()
        watch(start)
        yield rows
        clearInterval(timer)
        waitedMs += performance.now() - start
      }
      if (isCut) return true
      if (rows.length < asked) return false
      if (givenBack) return true
      asked = Math.min(rowsOf((isWhole ? mostBytesOf : meanBytes)(rows)), asked * 2)
    }
  } catch (error) {
    throw error instanceof DatabaseFailure ? error.answer : error
  } finally {
    clearInterval(timer)
    await giveBack()
  }
}

const patienceOf = (isContested: boolean, isWhole: boolean) => {
  if (isWhole) return isContested ? CONTESTED_BACKPRESSURE_OF_WHOLE_MS : Number.POSITIVE_INFINITY
  return isContested ? CONTESTED_BACKPRESSURE_MS : MAX_BACKPRESSURE_MS
}

/** Returns the size of the largest first column, in bytes of ASCII text; it is never 0. */
const mostBytesOf = (rows: readonly Row[]) =>
  rows.reduce((most, row) => Math.max(most, row[0]?.length ?? 0), 1)

type Begun = {
  readonly admission: Admission
  readonly lease: Lease
  readonly first: Batch
  readonly leave: () => void
}
/** @param isCut true if further rows were dropped */
type Batch = { readonly rows: Row[]; readonly isCut: boolean }

async function fetch(lease: Lease, count: number, mostBytes: number): Promise<Batch> {
  try {
    const rows = await lease.query({ text: `fetch ${count} from page`, values: [] }, { mostBytes })
    return { rows, isCut: false }
  } catch (error) {
    if (error instanceof AnswerTooLong) return { rows: error.rows, isCut: true }
    throw error
  }
}

/** Returns how many rows of this size are a batch. */
const rowsOf = (bytes: number) => Math.min(MAX_BATCH_ROWS, Math.max(1, Math.floor(BATCH_BYTES / bytes)))
