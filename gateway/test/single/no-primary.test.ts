// Tests a gateway that found no primary when it started, and has not found out since what may be changed.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { splitUrls } from '../../database/addresses.ts'
import { testDatabase } from '../support/database.ts'
import { startGatewayOn } from '../support/gateway.ts'
import { openRelay } from '../support/relay.ts'
import { until } from '../support/until.ts'

const relay = await openRelay(splitUrls(testDatabase().writeUrl)[0]!)
after(() => relay.close())
relay.cut()
const { client, catalog, database } = await startGatewayOn({ writeUrl: relay.url })

test('changes get 503 and Retry-After, not 405, until it is known what may be changed', async () => {
  // The test itself decides when the catalog is read again.
  catalog.close()
  const items = '/collections/cities/items'
  const create = () =>
    client(items, {
      method: 'POST',
      headers: { 'content-type': 'application/geo+json' },
      body: JSON.stringify({
        type: 'Feature',
        geometry: { type: 'Point', coordinates: [1, 2] },
        properties: { name: 'x', country: 'XX', admin1: '01', admin2: '02' },
      }),
    })
  assert.equal((await client(items)).status, 200)
  relay.mend()
  await until(() => database.isWritable)
  const { status, json, headers } = await create()
  assert.deepEqual([status, json.code], [503, 'database-unavailable'])
  assert.match(String(json.detail), /since this gateway started/)
  assert.match(headers.get('retry-after')!, /^\d+$/)
  await catalog.reload()
  const made = await create()
  assert.equal(made.status, 201)
  assert.equal((await client(`${items}/${made.json.id}`, { method: 'DELETE' })).status, 204)
})
