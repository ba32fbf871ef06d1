// Tests the SDK, including the example of its README as it is.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { createTesseraClient, readFeatures } from 'tessera-client'
import { makeSdk } from '../support/client.ts'
import { startGateway } from '../support/gateway.ts'

const { client } = await startGateway()
const readme = readFileSync(new URL('../../../openapi/client/README.md', import.meta.url), 'utf8')

test('readFeatures reads to the last feature if pages follow an offset', async () => {
  const sdk = makeSdk(client)
  let count = 0
  for await (const _ of readFeatures(sdk, 'countries', { offset: 200 })) count++
  assert.equal(count, 41)
})

test('a client sends the tokens of its changes, so that it sees them', async () => {
  const asked: (string | null)[] = []
  const answered: (string | null)[] = []
  const sdk = createTesseraClient({
    url: client.url,
    async fetch(request: Request) {
      asked.push(request.headers.get('consistency-token'))
      const response = await fetch(request)
      answered.push(response.headers.get('consistency-token'))
      return response
    },
  })
  const make = (name: string) =>
    sdk.POST('/collections/{collectionId}/items', {
      params: { path: { collectionId: 'cities' } },
      body: {
        type: 'Feature',
        geometry: { type: 'Point', coordinates: [1, -70] },
        properties: { name, country: 'AQ' },
      },
    })
  const made = await Promise.all([make('one'), make('two')])
  // Changes that are both committed before the LSN of either is queried have the same token.
  const both = [...new Set(answered)].join()
  for (const { data } of made) {
    const path = { collectionId: 'cities', featureId: String(data!.id) }
    await sdk.DELETE('/collections/{collectionId}/items/{featureId}', { params: { path } })
  }
  await sdk.GET('/collections', {})
  // First both tokens; then each new token replaces those that were sent with its change.
  assert.deepEqual(asked, [null, null, both, answered[2], answered[3]])
})

test('the example of the README does what it says', async () => {
  const [, example] = /```js\n(.+?)```/s.exec(readme)!
  const program = example!.replace('http://localhost:8080', client.url)
  assert.notEqual(program, example)
  const { stdout, stderr } = await promisify(execFile)(
    process.execPath,
    ['--input-type=module', '--eval', program],
    // The package is found from this folder, as in a project that has installed it.
    { cwd: fileURLToPath(new URL('../../..', import.meta.url)) },
  )
  assert.equal(stderr, '')
  const lines = stdout.trim().split('\n')
  assert.ok(lines.includes('24587.5 Pas de la Casa'), stdout)
  assert.deepEqual(lines.slice(-2), ['Newer Town', '412 feature-changed'])
})
