// Owns long results, which are read through a cursor, batch by batch, at the pace of the reader.

import type { Consistency } from './consistency.ts'
import type { Lease } from './lease.ts'
import { DatabaseFailure } from './outcome.ts'
import type { Attempt, Reader } from './reader.ts'
import type { Row, Statement } from './statement.ts'

/** Rows of the first batch: few, so that the first byte leaves early. Each batch is at most twice the one before. */
const FIRST_BATCH_ROWS = 16
/** Bytes of a later batch: enough to amortize a round trip, and little memory. */
const BATCH_BYTES = 512 * 1024
const MAX_BATCH_ROWS = 2_000

/** Returns the rows in batches. If the iteration ends early, the connection is freed. @throws GatewayError */
export async function* stream(
  reader: Reader,
  statement: Statement,
  consistency: Consistency | undefined,
  signal: AbortSignal | undefined,
): AsyncGenerator<Row[], void> {
  const requirement = await reader.require(statement.cells, consistency)
  const begin = async (lease: Lease, patienceMs: number | undefined) => {
    // The check comes first and by itself: a cursor that is open cannot be repeated.
    await reader.catchUp(lease, requirement, patienceMs, async () => {})
    await lease.query({ text: 'begin read only', values: [] })
    // Each fetch is a statement, not part of a suspended portal: statement_timeout then limits each fetch and not the
    // time that a slow reader takes between two of them.
    await lease.query({
      text: `declare page no scroll cursor for ${statement.text}`,
      values: statement.values,
    })
    const first = await lease.query(fetch(FIRST_BATCH_ROWS))
    await reader.note(lease, requirement)
    return { lease, first }
  }
  const run: Attempt<{ lease: Lease; first: Row[]; leave: () => void }> = async (endpoint, patienceMs) => {
    const leave = await endpoint.admissions.stream.enter('usual', signal)
    try {
      return { leave, ...(await endpoint.begin((lease) => begin(lease, patienceMs), signal)) }
    } catch (error) {
      leave()
      throw error
    }
  }
  const { lease, first, leave } = await reader.choose(requirement, run, signal)
  try {
    let rows = FIRST_BATCH_ROWS
    for (let batch = first; ; batch = await lease.query(fetch(rows))) {
      if (batch.length > 0) yield batch
      if (batch.length < rows) break
      rows = Math.min(rowsForNextBatch(batch), rows * 2)
    }
  } catch (error) {
    throw error instanceof DatabaseFailure ? error.answer : error
  } finally {
    await lease.release('rollback')
    leave()
  }
}

const fetch = (rows: number): Statement => ({ text: `fetch ${rows} from page`, values: [] })

function rowsForNextBatch(batch: Row[]): number {
  let bytes = 1
  for (const row of batch) bytes += row[0]?.length ?? 0
  return Math.min(MAX_BATCH_ROWS, Math.max(1, Math.floor((batch.length * BATCH_BYTES) / bytes)))
}
