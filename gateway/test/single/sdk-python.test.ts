// Tests the Python client as its users get it: its wheel in a fresh environment, against a real server.

import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { buildWheel, makeEnvironment } from '../../../openapi/python/build.ts'
import { startGateway } from '../support/gateway.ts'

const run = promisify(execFile)
const { client, session, catalog } = await startGateway()
const readme = readFileSync(join(import.meta.dirname, '../../../openapi/python/README.md'), 'utf8')
const folder = mkdtempSync(join(tmpdir(), 'tessera-sdk-python-'))
after(() => rmSync(folder, { recursive: true, force: true }))

const MYPY = 'mypy==2.4.1'
let programs = ''
let missing = ''

before(async () => {
  const hasPython = spawnSync('python3', [
    '-c',
    'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))',
  ])
  if (hasPython.status !== 0) missing = 'Python 3.10 with venv is not installed'
  else if (
    spawnSync('python3', ['-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', folder, MYPY]).status !==
    0
  )
    missing = 'no Python packages can be had'
  if (missing)
    return void process.stderr.write(`\n*** SKIPPED: ${missing}; the Python client was not tested ***\n\n`)
  const wheel = await buildWheel(join(folder, 'dist'))
  programs = await makeEnvironment(join(folder, 'environment'), [`${wheel}[geo]`, MYPY])
})

/** Runs a program in the environment of the wheel. @returns its lines */
async function python(t: TestContext, program: string, ...args: string[]): Promise<string[]> {
  if (missing) {
    t.skip(missing)
    return []
  }
  // Not from the repository, whose modules would be found first.
  const { stdout } = await run(join(programs, 'python'), ['-c', program, ...args], { cwd: folder })
  return stdout.trim().split('\n')
}

/** Returns the example of the README with this class, for the gateway of this file. */
function exampleWith(name: string): string {
  const examples = [...readme.matchAll(/```python\n(.+?)```/gs)].map(([, example]) => example!)
  const program = examples.find((example) => example.includes(` ${name}(`))!
  assert.ok(program.includes('http://localhost:8080'))
  return program.replace('http://localhost:8080', client.url)
}

test('the example of the README does what it says', async (t) => {
  const lines = await python(t, exampleWith('Tessera'))
  if (missing) return
  assert.ok(lines.includes('24587.5 Pas de la Casa'), lines.join('\n'))
  assert.deepEqual(lines.slice(-3, -1), ['Newer Town', '412 feature-changed'])
  const [count, authority] = lines.at(-1)!.split(' ', 1).concat(lines.at(-1)!.replace(/^\d+ /, ''))
  assert.ok(Number(count) > 1, lines.at(-1))
  assert.match(authority!, /CRS84|EPSG/)
})

test('the asynchronous example reads all pages', async (t) => {
  const lines = await python(t, exampleWith('AsyncTessera'))
  if (missing) return
  assert.equal(lines.length, 241)
  assert.ok(lines.includes('Andorra'))
})

test('types of the client are checked by mypy, and a wrong parameter is found', async (t) => {
  if (missing) return t.skip(missing)
  const check = (name: string, text: string) => {
    writeFileSync(join(folder, name), text)
    return run(join(programs, 'mypy'), ['--strict', name], { cwd: folder }).then(
      () => '',
      (error) => error.stdout as string,
    )
  }
  const example = exampleWith('Tessera')
  assert.equal(
    await check('right.py', example.replace('print(len(frame), frame.crs.to_authority())', 'del frame')),
    '',
  )
  assert.equal(await check('waiting.py', exampleWith('AsyncTessera')), '')
  const wrong = await check('wrong.py', example.replace('property=', 'properties_='))
  assert.match(wrong, /wrong\.py:\d+: error: .*properties_/)
  return undefined
})

test('a change whose answer is lost is repeated with the same key, and happens once', async (t) => {
  await session.query(
    'create table py_once (id int generated always as identity primary key, geom geometry(Point, 4326), name text)',
  )
  await catalog.reload()
  const relay = await openLosingRelay(client.url)
  after(() => relay.close())
  const lines = await python(
    t,
    `
import asyncio, sys
from tessera_client import AsyncTessera, Tessera
feature = lambda name: {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {"name": name}}
with Tessera(sys.argv[1]) as client:
    print(client.create("py_once", feature("one")).feature.properties["name"])
    print(client.store("py_once", [feature("two"), feature("three")]).number_stored)
async def main() -> None:
    async with AsyncTessera(sys.argv[1]) as client:
        print((await client.create("py_once", feature("four"))).feature.properties["name"])
asyncio.run(main())
`,
    relay.url,
  )
  if (missing) return
  assert.deepEqual(lines, ['one', '2', 'four'])
  assert.equal(relay.lost, 3)
  const names = await session.query<{ name: string }>('select name from py_once order by id')
  assert.deepEqual(
    names.map(({ name }) => name),
    ['one', 'two', 'three', 'four'],
  )
})

test('a change without a key is not repeated, and neither is one whose body is gone', async (t) => {
  await session.query('create table py_lost (id int primary key, geom geometry(Point, 4326), name text)')
  await catalog.reload()
  const relay = await openLosingRelay(client.url)
  after(() => relay.close())
  const lines = await python(
    t,
    `
import sys
import httpx
from tessera_client import Tessera
feature = lambda id: {"type": "Feature", "id": id, "geometry": None, "properties": {"name": "n"}}
for repeats, body in [(False, [feature(1)]), (True, (feature(id) for id in [2]))]:
    with Tessera(sys.argv[1], repeats_changes=repeats) as client:
        try:
            client.store("py_lost", body)
        except httpx.TransportError as error:
            print("lost")
`,
    relay.url,
  )
  if (missing) return
  assert.deepEqual(lines, ['lost', 'lost'])
})

test('many features are stored from an iterator, and the tokens of changes are sent with what is read', async (t) => {
  await session.query(
    'create table py_many (id int primary key, geom geometry(Point, 4326), name text, seen date)',
  )
  await catalog.reload()
  const lines = await python(
    t,
    `
import sys
import httpx
from tessera_client import Tessera
class Seen(httpx.BaseTransport):
    inner = httpx.HTTPTransport()
    sent = []
    def handle_request(self, request):
        self.sent.append(request.headers.get("Consistency-Token"))
        response = self.inner.handle_request(request)
        self.token = response.headers.get("Consistency-Token", getattr(self, "token", None))
        return response
seen = Seen()
feature = lambda id: {"type": "Feature", "id": id, "geometry": {"type": "Point", "coordinates": [id / 100, 2]},
    "properties": {"name": f"n{id}", "seen": "2024-02-29"}}
with Tessera(sys.argv[1], transport=seen) as client:
    print(client.store("py_many", (feature(id) for id in range(5000))).number_stored)
    print(sum(1 for _ in client.features("py_many", limit=1000, sortby=["-name"])))
    frame = client.geodataframe("py_many", bbox=[0, 0, 10, 10], properties=["name"])
    print(len(frame), frame.geometry.x.max(), sorted(set(frame.columns) - {"id"}))
    print(len(client.geodataframe("py_many", filter="name = 'none'")))
    print(seen.sent[0], seen.token is not None and set(seen.sent[1:]) == {seen.token})
`,
    client.url,
  )
  if (missing) return
  assert.deepEqual(lines, ['5000', '5000', "1001 10.0 ['geometry', 'name']", '0', 'None True'])
})

/**
 * Opens a relay to a gateway that loses the first answer to each body: the request arrives, and the connection is closed
 * before its answer.
 */
async function openLosingRelay(url: string) {
  const { port } = new URL(url)
  const seen = new Set<string>()
  const sockets = new Set<Socket>()
  let lost = 0
  const server = createServer((caller) => {
    const called = connect(Number(port), '127.0.0.1')
    let text = ''
    for (const socket of [caller, called]) {
      sockets.add(socket)
      socket.on('error', () => {}).on('close', () => sockets.delete(socket))
    }
    caller.on('data', (chunk) => {
      text += chunk
      called.write(chunk)
    })
    called.on('data', (chunk) => {
      const [, key = text] = /^idempotency-key: (.+)$/im.exec(text) ?? []
      text = ''
      if (seen.has(key)) return void caller.write(chunk)
      seen.add(key)
      lost++
      caller.destroy()
      called.destroy()
    })
    caller.on('close', () => called.destroy())
    called.on('close', () => caller.destroy())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get lost() {
      return lost
    },
    close() {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}
