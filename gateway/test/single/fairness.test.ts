// Tests that a client with many connections and expensive queries takes no more than its share of the database.

import assert from 'node:assert/strict'
import { Agent, get } from 'node:http'
import { before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()

const ATTACKER = '203.0.113.5'
const VICTIM = '198.51.100.7'
/** Connections of the attacker. */
const CONNECTIONS = 32
/** Least time that counts as that of an idle server: below it, the scheduler of a busy machine decides. */
const LEAST_IDLE_MS = 30
const SAMPLES = 40
/** Other programs of this machine can disturb a round; a request of the victim that is refused fails the test at once. */
const ROUNDS = 3

before(async () => {
  await session.query(`
    create table mill as
      select i as id, st_setsrid(st_makepoint(random() * 360 - 180, random() * 180 - 90), 4326)::geometry(Point, 4326) geom,
        md5(i::text) a, md5((i * 7)::text) b
      from generate_series(1, 100000) i;
    alter table mill add primary key (id); create index on mill using gist (geom); analyze mill`)
  await catalog.reload()
})

type Outcome = { readonly status: number; readonly ms: number }

/** Sends a request of a client behind a trusted proxy, and reads its answer. */
const ask = (path: string, address: string, agent: Agent) =>
  new Promise<Outcome>((resolve, reject) => {
    const start = performance.now()
    get(`${client.url}${path}`, { agent, headers: { 'x-forwarded-for': address } }, (response) => {
      response.resume()
      response.on('end', () => resolve({ status: response.statusCode!, ms: performance.now() - start }))
      response.on('error', reject)
    }).on('error', reject)
  })

/** Sends one request after another, and returns their durations in ascending order. */
async function sample(path: string, address: string): Promise<number[]> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const times: number[] = []
  for (let count = 0; count < SAMPLES; count++) {
    const { status, ms } = await ask(path, address, agent)
    assert.equal(status, 200, `${path} after ${ms} ms`)
    times.push(ms)
    await sleep(10)
  }
  agent.destroy()
  return times.sort((a, b) => a - b)
}

const p95 = (sorted: readonly number[]) => sorted[Math.ceil(sorted.length * 0.95) - 1]!

/** Runs `work` while a client sends a query on all of its connections again and again. @returns what it got */
async function besideAttack<T>(path: string, work: () => Promise<T>): Promise<Outcome[]> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS })
  const outcomes: Outcome[] = []
  let isOver = false
  const attackers = Array.from({ length: CONNECTIONS }, async () => {
    while (!isOver) {
      const outcome = await ask(path, ATTACKER, agent)
      outcomes.push(outcome)
      // A client that is refused may come back after two seconds; this one does not wait as long.
      if (outcome.status !== 200) await sleep(500)
    }
  })
  // Until the gateway has noticed the pressure, and what ran before has ended.
  await sleep(3_000)
  try {
    await work()
  } finally {
    isOver = true
    await Promise.all(attackers)
    agent.destroy()
  }
  return outcomes
}

const EXPENSIVE = {
  'pages that are read in one go': '/collections/mill/items?limit=100&offset=90000&sortby=a,b',
  'pages that are streamed': '/collections/mill/items?limit=1001&offset=90000&sortby=a,b',
}
for (const [name, path] of Object.entries(EXPENSIVE))
  test(`beside a client with 32 connections for expensive ${name}, others get features and small pages as usual`, {
    timeout: 180_000,
  }, async () => {
    const paths = ['/collections/mill/items/4242', '/collections/mill/items?limit=10&bbox=5,45,6,46']
    const outcomes: Outcome[] = []
    let faults: string[] = []
    for (let round = 0; round < ROUNDS; round++) {
      const idle = new Map<string, number>()
      for (const one of paths) idle.set(one, p95(await sample(one, VICTIM)))
      faults = []
      const attack = await besideAttack(path, async () => {
        for (const one of paths) {
          const busy = p95(await sample(one, VICTIM))
          const before = Math.max(LEAST_IDLE_MS, idle.get(one)!)
          if (busy > 5 * before) faults.push(`${one}: p95 of ${busy} ms instead of ${before} ms`)
        }
      })
      outcomes.push(...attack)
      if (faults.length === 0) break
    }
    assert.deepEqual(faults, [])
    // The attacker is served as well, one statement after another.
    assert.ok(outcomes.some(({ status }) => status === 200))
  })
