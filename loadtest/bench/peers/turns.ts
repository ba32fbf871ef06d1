// Owns the turns: each side is measured once in each round, so that a noisy machine disturbs all of them.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Load } from '../measure.ts'
import { checkAnswers } from './answers.ts'
import type { Case } from './cases.ts'
import { memoryOf } from './peer.ts'
import type { Read, Result } from './results.ts'
import type { PeerSide, Side } from './sides.ts'

/** Reports progress, and what was not measured: a failure costs a turn and not the run. */
export type Reporter = {
  readonly say: (text: string) => void
  readonly note: (text: string, cause?: unknown) => void
}

/** Time after which a server that has started is at rest. */
const REST_MS = 2_000

/** Starts each peer in turn; those of the last round go on. @returns the peers that start */
export async function measureStarts(
  peers: readonly PeerSide[],
  rounds: number,
  { note }: Reporter,
): Promise<PeerSide[]> {
  const started = new Set(peers)
  for (let round = 0; round < rounds; round++)
    for (const peer of started)
      try {
        const { startMs } = await peer.start()
        peer.starts.push(startMs)
      } catch (error) {
        note(`${peer.name} does not start`, error)
        await peer.stop()
        started.delete(peer)
      }
  await sleep(REST_MS)
  for (const peer of started) peer.atRest = memoryOf(peer.processId)
  return [...started]
}

export async function measureCase(
  one: Case,
  sides: readonly Side[],
  { rounds, seconds, socket }: { readonly rounds: number; readonly seconds: number; readonly socket: string },
  { say, note }: Reporter,
): Promise<Result[]> {
  const features = new Map<Side, number>()
  for (const side of sides.filter((candidate) => candidate.can(one)))
    try {
      features.set(side, await checkAnswers(side, one, socket))
    } catch (error) {
      note(`${side.name} is not measured in "${one.name}"`, error)
    }
  const results: Result[] = []
  for (const clients of one.clients) {
    const loads = new Map<Side, (Load | undefined)[]>([...features.keys()].map((side) => [side, []]))
    for (let round = 0; round < rounds; round++)
      for (const [side, measured] of loads)
        measured.push(
          await side.measure(one, clients, seconds).catch((error) => {
            note(`${side.name} failed in "${one.name}" with ${clients} clients`, error)
            return undefined
          }),
        )
    for (const [side, measured] of loads)
      results.push({ one, clients, side: side.name, features: features.get(side)!, loads: measured })
    say(`${one.name}, ${clients} client(s): done`)
  }
  return results
}

/** A side that takes longer to read a table does so in one round only. */
const LONG_MS = 20_000

/** @param rows of the table */
export async function measureReads(
  way: Read['way'],
  sides: readonly Side[],
  { rounds, table, rows }: { readonly rounds: number; readonly table: string; readonly rows: number },
  { say, note }: Reporter,
): Promise<Read[]> {
  const rates = new Map<Side, number[]>()
  const slow = new Set<Side>()
  for (let round = 0; round < rounds; round++)
    for (const side of sides.filter((candidate) => !slow.has(candidate))) {
      const start = performance.now()
      const features = await side.readAll(way, table).catch((error) => {
        note(`${side.name} failed in ${way}`, error)
        return 0
      })
      const ms = performance.now() - start
      if (ms > LONG_MS || !features) slow.add(side)
      if (!features) continue
      if (features !== rows) note(`${way} of ${side.name} ended after ${features} of ${rows} features`)
      rates.set(side, [...(rates.get(side) ?? []), features / (ms / 1_000)])
    }
  say(`${way}: done`)
  return [...rates].map(([side, measured]) => ({ way, side: side.name, rates: measured }))
}
