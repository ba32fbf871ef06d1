// Owns the traffic under which scenarios happen: writers that remember what was acknowledged to them.

import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { connect } from '../connection.ts'
import type { Credentials } from '../credentials.ts'
import type { Topology } from '../topology.ts'

/** As a gateway's own: a statement that takes longer is given up, and its connection with it. */
const STATEMENT_TIMEOUT_MS = 3_000
const RETRY_MS = 50

export const TABLE = 'scenario_row'

export type Outcome = {
  /** Ids that the cluster said it had taken. */
  readonly acknowledged: readonly number[]
  /** Milliseconds between two acknowledgements of a writer, at the most. */
  readonly longestGapMs: number
  readonly failures: number
}

export interface Writers {
  stop(): Promise<Outcome>
}

/** @param ids to insert, one after the other, shared out among the writers: those of one group show how it fares */
export function startWriters(
  topology: Topology,
  credentials: Credentials,
  count: number,
  ids: readonly number[],
): Writers {
  const limits = {
    port: topology.proxies[0]!.writePort,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    query_timeout: STATEMENT_TIMEOUT_MS + 1_000,
    connectionTimeoutMillis: 2_000,
  }
  let isRunning = true
  const acknowledged: number[] = []
  let longestGapMs = 0
  let failures = 0
  const write = async (writer: number) => {
    let client: pg.Client | undefined
    let last = performance.now()
    for (let index = writer; isRunning && index < ids.length; index += count) {
      const id = ids[index]!
      try {
        client ??= await connect(topology, credentials, 'tessera_write', limits)
        await client.query(`insert into ${TABLE} (id) values ($1)`, [id])
        acknowledged.push(id)
        longestGapMs = Math.max(longestGapMs, performance.now() - last)
        last = performance.now()
      } catch {
        failures++
        await client?.end().catch(() => {})
        client = undefined
        await sleep(RETRY_MS)
      }
    }
    await client?.end().catch(() => {})
  }
  const writing = Promise.all(Array.from({ length: count }, (_, writer) => write(writer)))
  return {
    async stop() {
      isRunning = false
      await writing
      return { acknowledged, longestGapMs, failures }
    },
  }
}
