// What k6 records and what it leaves out: a pause is one in the curve.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeRecordReader } from '../record.ts'

const line = (event: string, data: unknown) => `${JSON.stringify({ event, data })}\n`

test('a second without requests counts none, and has no percentiles', () => {
  const reader = makeRecordReader()
  const text = [
    line('param', { aggregates: { counter: ['count', 'rate'], gauge: ['value'], trend: ['med'] } }),
    line('metric', { time: { type: 'gauge' }, http_reqs: { type: 'counter' }, vus: { type: 'gauge' } }),
    line('metric', { http_req_duration: { type: 'trend' } }),
    // By name: http_req_duration, http_reqs, time, vus.
    line('snapshot', [[12], [3, 3], [1_000], [0]]),
    line('snapshot', [[], [], [2_000], []]),
  ].join('')
  // As it grows: in the middle of a line.
  reader.add(text.slice(0, 150))
  reader.add(text.slice(150))
  const [busy, idle] = reader.snapshots
  assert.deepEqual([busy!.at, idle!.at], [1_000, 2_000])
  assert.deepEqual(busy!.metrics.http_reqs, { count: 3, rate: 3 })
  assert.deepEqual(busy!.metrics.vus, { value: 0 })
  assert.deepEqual(idle!.metrics.http_reqs, { count: 0, rate: 0 })
  assert.deepEqual([idle!.metrics.http_req_duration, idle!.metrics.vus], [undefined, undefined])
})
