// Owns `npm run bench`: which measurement runs, and for how long. Each measures its sides in turn within one run, so
// that a noisy machine disturbs all of them, and reports medians.

import { parseArgs } from 'node:util'
import { measureCausal } from './causal.ts'
import { measureGateway } from './gateway.ts'
import type { Duration } from './measure.ts'
import { measureSharding } from './sharding.ts'

const MEASUREMENTS: Record<string, (duration: Duration) => Promise<void>> = {
  gateway: measureGateway,
  sharding: measureSharding,
  causal: measureCausal,
}

const { values, positionals } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '4' } },
  allowPositionals: true,
})
const measure = MEASUREMENTS[positionals[0] ?? 'gateway']
if (measure) {
  await measure({ rounds: Number(values.rounds), seconds: Number(values.seconds) })
} else {
  process.stderr.write(
    `npm run bench -- ${Object.keys(MEASUREMENTS).join(' | ')} [--rounds 5] [--seconds 4]\n`,
  )
  process.exitCode = 2
}
