// Tests the reader of k6's record: a second without requests must show in the curves.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeRecordReader } from '../record.ts'

const line = (event: string, data: unknown) => `${JSON.stringify({ event, data })}\n`

test('a second without requests has a count of 0, and no percentiles', () => {
  const reader = makeRecordReader()
  const text = [
    line('param', { aggregates: { counter: ['count', 'rate'], gauge: ['value'], trend: ['med'] } }),
    line('metric', { time: { type: 'gauge' }, http_reqs: { type: 'counter' }, vus: { type: 'gauge' } }),
    line('metric', { http_req_duration: { type: 'trend' } }),
    // In the order of the names: http_req_duration, http_reqs, time, vus.
    line('snapshot', [[12], [3, 3], [1_000], [0]]),
    line('snapshot', [[], [], [2_000], []]),
  ].join('')
  // The record may have grown to the middle of a line.
  reader.add(text.slice(0, 150))
  reader.add(text.slice(150))
  const [busy, idle] = reader.snapshots
  assert.deepEqual([busy!.at, idle!.at], [1_000, 2_000])
  assert.deepEqual(busy!.metrics.http_reqs, { count: 3, rate: 3 })
  assert.deepEqual(busy!.metrics.vus, { value: 0 })
  assert.deepEqual(idle!.metrics.http_reqs, { count: 0, rate: 0 })
  assert.deepEqual([idle!.metrics.http_req_duration, idle!.metrics.vus], [undefined, undefined])
})
