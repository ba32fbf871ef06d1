// Tests the names of clients: a machine that has a whole network of addresses is one client.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { networkOf } from '../../http/client.ts'

test('an IPv4 address is a client, however it is written', () => {
  assert.equal(networkOf('203.0.113.5'), '203.0.113.5')
  assert.equal(networkOf('::ffff:203.0.113.5'), '203.0.113.5')
})

test('all IPv6 addresses of one network are one client', () => {
  const same = ['2001:db8:1:2::1', '2001:db8:1:2:ffff:1:2:3', '2001:0DB8:0001:0002::', '2001:db8:1:2::5:6']
  assert.deepEqual([...new Set(same.map(networkOf))], ['2001:db8:1:2::'])
  const others = ['2001:db8:1:3::1', '2001:db8::1', '::1', 'fe80::1', 'fd00:0:0:1::1']
  assert.equal(new Set([...same, ...others].map(networkOf)).size, 1 + others.length)
})
