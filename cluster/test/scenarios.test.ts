// Some of what the cluster promises, kept under load: a switchover, a crash and a killed node, of one plain pair,
// and where Citus is installed of the whole topology. `npm run scenarios` plays them all, and times them.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ClusterError, findPlace, findPrograms } from '../place.ts'
import { play } from '../scenarios/play.ts'
import { scenarios } from '../scenarios/scenarios.ts'
import { openStage } from '../scenarios/stage.ts'
import type { Size } from '../topology.ts'

const FAULTS = ['switchover', 'crash', 'kill']
/** A machine on which other things run too may need longer; what is lost stays lost however long it takes. */
const PATIENCE = 3

function whyNot(isCitus: boolean): string | false {
  try {
    const { hasCitus } = findPrograms(findPlace(undefined, {}))
    if (hasCitus || !isCitus) return false
    return 'SKIPPED: Citus is not installed; nothing was tried of the replicated Citus cluster'
  } catch (error) {
    if (error instanceof ClusterError) return `SKIPPED: ${error.message}`
    throw error
  }
}

const stages: readonly [what: string, group: string, size: Partial<Size>][] = [
  ['one pair', 'coordinator', { workers: 0 }],
  ['the replicated Citus cluster', 'worker', {}],
]

for (const [what, group, size] of stages) {
  const skip = whyNot(group === 'worker')
  if (skip) process.stderr.write(`\n*** ${skip} ***\n\n`)
  test(`${what}, under load`, { skip, timeout: 400_000 }, async (t) => {
    const stage = await openStage(size, () => {})
    t.after(() => stage.close())
    for (const fault of FAULTS) {
      await t.test(fault, async () => {
        const scenario = scenarios.find(({ name }) => name === `${group}-${fault}`)!
        const { broken, ...measured } = await play(stage, scenario, PATIENCE)
        assert.deepEqual(broken, [])
        assert.ok(measured.acknowledged > 0)
      })
    }
  })
}
