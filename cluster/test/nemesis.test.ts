// A short run of the nemesis suite, on one plain pair and where Citus is installed on the whole topology: clients of
// the gateways are promised much, and a primary dies. `npm run scenarios -- nemesis` plays every fault.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openNemesis, playNemesis } from '../scenarios/nemesis.ts'
import { gatewayScenarios, scenarios } from '../scenarios/scenarios.ts'
import { whyNot } from './requirements.ts'

const all = [...scenarios, ...gatewayScenarios]

for (const [what, isPlain, names] of [
  ['one pair without Citus', true, ['coordinator-kill']],
  ['the replicated Citus cluster', false, ['worker-kill', 'gateway-kill']],
] as const)
  test(`${what} keeps its promises to clients of the gateways`, {
    skip: whyNot(!isPlain),
    timeout: 900_000,
  }, async (t) => {
    const stage = await openNemesis(isPlain, () => {})
    t.after(() => stage.close())
    for (const name of names)
      await t.test(name, async () => {
        const scenario = all.find((one) => one.name === name)!
        const { violations, broken, acknowledged, steadyCausal } = await playNemesis(stage, scenario)
        assert.deepEqual({ violations, broken }, { violations: [], broken: [] })
        assert.ok(acknowledged > 0 && steadyCausal > 0)
      })
  })
