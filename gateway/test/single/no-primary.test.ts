// Tests a gateway that has found no primary since it started: it reads, and changes are to be tried again.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startGatewayOn } from '../support/gateway.ts'

const { client } = await startGatewayOn({ writeUrl: 'postgresql://tessera_write@127.0.0.1:1/tessera' })

test('changes get 503 and Retry-After, not 405, until it is known what may be changed', async () => {
  const items = '/collections/cities/items'
  assert.equal((await client(items)).status, 200)
  const { status, json, headers } = await client(items, {
    method: 'POST',
    headers: { 'content-type': 'application/geo+json' },
    body: JSON.stringify({
      type: 'Feature',
      geometry: { type: 'Point', coordinates: [1, 2] },
      properties: {},
    }),
  })
  assert.deepEqual([status, json.code], [503, 'database-unavailable'])
  assert.match(headers.get('retry-after')!, /^\d+$/)
})
