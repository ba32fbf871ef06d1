// Owns waiting in tests for a condition that becomes true by itself.

import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'

/** Waits until a condition holds, and fails after `withinMs`. @returns how long it took, in milliseconds */
export async function until(holds: () => boolean | Promise<boolean>, withinMs = 5_000): Promise<number> {
  const start = performance.now()
  while (!(await holds())) {
    assert.ok(performance.now() - start < withinMs, `not within ${withinMs} ms: ${holds}`)
    await sleep(5)
  }
  return performance.now() - start
}
