// Owns waiting in tests for what comes about by itself.

import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'

/** @returns how long it took, in milliseconds. Fails where it takes longer than that */
export async function until(holds: () => boolean | Promise<boolean>, withinMs = 5_000): Promise<number> {
  const start = performance.now()
  while (!(await holds())) {
    assert.ok(performance.now() - start < withinMs, `not within ${withinMs} ms: ${holds}`)
    await sleep(5)
  }
  return performance.now() - start
}
