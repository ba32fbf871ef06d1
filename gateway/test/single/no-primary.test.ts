// Tests a gateway that has found no primary since it started: it reads, and changes are to be tried again.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { buildApp } from '../../app.ts'
import { readConfig } from '../../config.ts'
import { openDatabase } from '../../database/database.ts'
import { openCatalog } from '../../features/collections/catalog.ts'
import { testDatabase } from '../support/database.ts'

test('changes get 503 and Retry-After, not 405, until it is known what may be changed', async () => {
  const { config } = readConfig([], {}, {})
  const emit = () => {}
  const writeUrl = 'postgresql://tessera_write@127.0.0.1:1/tessera'
  const database = openDatabase({ ...config, ...testDatabase(), writeUrl, emit })
  after(() => database.close())
  const catalog = await openCatalog({ database, ...config, emit })
  after(() => catalog.close())
  const readMetrics = async () => ''
  const app = await buildApp({ config, database, catalog, emit, readMetrics, isDraining: () => false })
  after(() => app.close())
  const url = '/collections/cities/items'
  assert.equal((await app.inject({ url })).statusCode, 200)
  const answer = await app.inject({
    url,
    method: 'POST',
    headers: { 'content-type': 'application/geo+json' },
    payload: { type: 'Feature', geometry: { type: 'Point', coordinates: [1, 2] }, properties: {} },
  })
  assert.deepEqual([answer.statusCode, answer.json().code], [503, 'database-unavailable'])
  assert.match(answer.headers['retry-after'] as string, /^\d+$/)
})
