// Owns the changes that drills write while a cluster is backed up, and what must be there of them after a restore.

import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect, withSuperuser } from '../../database-urls.ts'
import type { Cluster } from '../../parts.ts'
import { TABLE } from '../../scenarios/traffic.ts'

const WRITE_TIMEOUT_MS = 5_000
const PAUSE_MS = 10

/** A change: the ids that one transaction inserted, when it was sent, and when it was acknowledged, if it was. */
export type Change = { readonly ids: readonly number[]; readonly sentAt: number; acknowledgedAt?: number }

/** Milliseconds since 1970, with fractions, so that they can be compared with the dates of restore points. */
export const now = () => performance.timeOrigin + performance.now()

/** Writes changes one after the other until `isOver`. @param idsOf the ids of a change by its number */
export async function write(
  { place, credentials }: Cluster,
  idsOf: (number: number) => readonly number[],
  isOver: () => boolean,
): Promise<Change[]> {
  const { host, writePort } = place.topology.proxies[0]!
  const changes: Change[] = []
  const open = async () => {
    const client = await connect(
      credentials,
      'tessera_write',
      { host, port: writePort },
      {
        query_timeout: WRITE_TIMEOUT_MS,
        connectionTimeoutMillis: WRITE_TIMEOUT_MS,
      },
    )
    return { client, warnings: [] as unknown[] }
  }
  let session: Awaited<ReturnType<typeof open>> | undefined
  for (let number = 0; !isOver(); number++) {
    const change: Change = { ids: idsOf(number), sentAt: now() }
    changes.push(change)
    try {
      if (!session) {
        const opened = await open()
        opened.client.on('notice', (notice) => opened.warnings.push(notice))
        session = opened
      }
      const values = change.ids.map((_, index) => `($${index + 1})`).join()
      await session.client.query(`insert into ${TABLE} (id) values ${values}`, [...change.ids])
      // A commit with a warning is not acknowledged.
      if (session.warnings.length > 0) throw new Error('not acknowledged')
      change.acknowledgedAt = now()
    } catch {
      session?.client.end().catch(() => {})
      session = undefined
    }
    await sleep(PAUSE_MS)
  }
  await session?.client.end()
  return changes
}

/**
 * Compares a restored cluster with what was written: what was acknowledged before the restore point was begun is there,
 * nothing that was sent after it, and no change by half.
 */
export async function checkRestored(
  { place, credentials }: Cluster,
  changes: readonly Change[],
  begun: number,
  ended: number,
) {
  const rows = await withSuperuser(place.topology, credentials, (client) =>
    client.query(`select id::int from ${TABLE}`).then(({ rows }) => rows),
  )
  const there = new Set(rows.map(({ id }) => id))
  const countOf = ({ ids }: Change) => ids.filter((id) => there.has(id)).length
  const before = changes.filter(({ acknowledgedAt = Number.POSITIVE_INFINITY }) => acknowledgedAt < begun)
  const after = changes.filter(({ sentAt }) => sentAt > ended)
  assert.deepEqual(
    before.filter((change) => countOf(change) < change.ids.length),
    [],
    'acknowledged before the point, and lost',
  )
  assert.deepEqual(
    after.filter((change) => countOf(change) > 0),
    [],
    'sent after the point, and there',
  )
  assert.deepEqual(
    changes.filter((change) => countOf(change) % change.ids.length > 0),
    [],
    'there by half',
  )
  // Otherwise the test would prove nothing.
  for (const some of [before, after])
    assert.deepEqual([...new Set(some.map(({ ids }) => ids.length))].toSorted(), [1, 2])
}
