// Owns the count of geometries that answers could not show as they are stored.

import type { Emit } from '../../events.ts'
import type { Collection } from '../collections/collection.ts'

export interface Unshown {
  /** Counts geometries of one answer, or of a batch of one; 0 is nothing. */
  note(collection: Collection, count: number): void
}

/** Interval between two events of a collection: its bad rows may be part of every answer. */
const INTERVAL_MS = 60_000

export function makeUnshown(emit: Emit): Unshown {
  const counted = new Map<string, { count: number; toldAt: number }>()
  return {
    note({ id }, count) {
      if (count === 0) return
      const now = performance.now()
      const entry = counted.get(id) ?? { count: 0, toldAt: Number.NEGATIVE_INFINITY }
      counted.set(id, entry)
      entry.count += count
      if (now - entry.toldAt < INTERVAL_MS) return
      emit({ type: 'geometries-unshown', collection: id, count: entry.count })
      entry.count = 0
      entry.toldAt = now
    },
  }
}
