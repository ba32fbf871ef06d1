// Owns `npm run bench`: which measurement runs, and for how long. Each measures its sides in turn within one run, so
// that a noisy machine disturbs all of them, and reports medians.

import { parseArgs } from 'node:util'
import { measureCausal } from './causal.ts'
import { measureGateway } from './gateway.ts'
import type { Duration } from './measure.ts'
import { measureMemory } from './memory.ts'
import { measurePeers } from './peers.ts'
import { measureSharding } from './sharding.ts'
import { measureTiles } from './tiles.ts'

const { values, positionals } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '4' },
    rows: { type: 'string', default: '10000,1000000' },
    points: { type: 'string', default: '10000000' },
  },
  allowPositionals: true,
})

const MEASUREMENTS: Record<string, (duration: Duration) => Promise<void>> = {
  gateway: measureGateway,
  sharding: measureSharding,
  causal: measureCausal,
  peers: (duration) => measurePeers({ ...duration, growth: values.rows.split(',').map(Number) }),
  memory: () => measureMemory({ points: Number(values.points) }),
  tiles: (duration) => measureTiles({ ...duration, points: Number(values.points) }),
}

const measure = MEASUREMENTS[positionals[0] ?? 'gateway']
if (measure) {
  await measure({ rounds: Number(values.rounds), seconds: Number(values.seconds) })
} else {
  process.stderr.write(
    `npm run bench -- ${Object.keys(MEASUREMENTS).join(' | ')} [--rounds 5] [--seconds 4] [--rows 10000,1000000] [--points 10000000]\n`,
  )
  process.exitCode = 2
}
