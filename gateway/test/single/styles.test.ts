// Tests styles of the operator over HTTP: they take the place of those that are made.

import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { startGateway } from '../support/gateway.ts'

const folder = await mkdtemp(join(tmpdir(), 'tessera-styles-'))
after(() => rm(folder, { recursive: true }))
const made = await startGateway()
const cities = (await made.client('/collections/cities/style.json')).json
const all = (await made.client('/style.json')).json
await mkdir(join(folder, 'collections/cities'), { recursive: true })
const own = { ...cities, layers: [{ ...cities.layers.at(-1), paint: { 'circle-color': '#ff0000' } }] }
const { name: _, ...unnamed } = own
await writeFile(join(folder, 'collections/cities/style.json'), JSON.stringify(unnamed))
await writeFile(join(folder, 'style.json'), JSON.stringify({ ...all, name: 'Ours' }))
const { client } = await startGateway(`--styles=${folder}`)

test("the operator's style takes the place of the one that is made, with the tiles of the gateway that sends it", async () => {
  const { json, headers, status } = await client('/collections/cities/style.json')
  assert.equal(status, 200)
  assert.match(headers.get('content-type')!, /vnd\.mapbox\.style\+json/)
  assert.deepEqual(json.layers, own.layers)
  assert.equal(json.name, cities.name)
  const [source] = Object.values(json.sources) as { url: string }[]
  assert.equal(source!.url, `${client.url}/collections/cities/tilejson.json`)
  assert.equal((await client(source!.url.slice(client.url.length))).json.tilejson, '3.0.0')
  assert.equal((await client('/style.json')).json.name, 'Ours')
})

test('other collections, and a choice of collections, have a style that is made', async () => {
  const countries = await client('/collections/countries/style.json')
  assert.equal(countries.json.layers[0].id, 'background')
  assert.notEqual((await client('/style.json?collections=cities')).json.name, 'Ours')
})

test('a gateway does not start with a style that cannot be drawn', async () => {
  const broken = join(folder, 'broken')
  await mkdir(broken)
  await writeFile(join(broken, 'style.json'), '{"version": 8}')
  await assert.rejects(startGateway(`--styles=${broken}`), /broken\/style\.json cannot be used: .*sources/)
})
