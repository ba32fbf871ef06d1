// Tests admission: the limit of work at once, what goes first, and as much work at ten times the load as before.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeAdmission } from '../../database/admission.ts'
import { gatewayError } from '../../errors.ts'

test('no more work runs at once than the limit allows, in the order of arrival', async () => {
  const admission = makeAdmission(2)
  let most = 0
  const order: number[] = []
  const run = (number: number) =>
    admission.run(
      async () => {
        most = Math.max(most, admission.running)
        order.push(number)
        await sleep(5)
      },
      { priority: 'usual' },
    )
  await Promise.all([0, 1, 2, 3, 4, 5].map(run))
  assert.equal(most, 2)
  assert.deepEqual(order, [0, 1, 2, 3, 4, 5])
  assert.deepEqual([admission.running, admission.waiting], [0, 0])
})

test('work with the priority first overtakes work that waits', async () => {
  const admission = makeAdmission(1)
  const order: string[] = []
  const run = (name: string, priority: 'first' | 'usual') =>
    admission.run(
      async () => {
        order.push(name)
        await sleep(5)
      },
      { priority },
    )
  await Promise.all([
    run('page 1', 'usual'),
    run('page 2', 'usual'),
    run('item', 'first'),
    run('page 3', 'usual'),
  ])
  assert.deepEqual(order, ['page 1', 'item', 'page 2', 'page 3'])
})

test('a higher limit admits waiting work at once, and a lower one waits for running work', async () => {
  const admission = makeAdmission(1)
  const leaves: (() => void)[] = []
  for (let entered = 0; entered < 4; entered++)
    admission.enter({ priority: 'usual' }).then((leave) => leaves.push(leave))
  await sleep(0)
  assert.deepEqual([admission.running, admission.waiting], [1, 3])
  admission.resize(3)
  await sleep(0)
  assert.deepEqual([admission.limit, admission.running, admission.waiting], [3, 3, 1])
  admission.resize(1)
  for (const [left, leave] of leaves.splice(0, 2).entries()) {
    leave()
    await sleep(0)
    assert.deepEqual([admission.running, admission.waiting], [2 - left, 1])
  }
  leaves.pop()!()
  await sleep(0)
  assert.deepEqual([admission.running, admission.waiting], [1, 0])
})

test('waiting work that is aborted leaves the queue, and work that fails makes room', async () => {
  const admission = makeAdmission(1)
  const leaving = new AbortController()
  const failing = admission.run(() => sleep(20).then(() => Promise.reject(new Error('no'))), {
    priority: 'usual',
  })
  const left = admission.run(() => assert.fail('ran'), { priority: 'usual', signal: leaving.signal })
  leaving.abort(gatewayError('request-abandoned', 'The client went away.'))
  await assert.rejects(left, { code: 'request-abandoned' })
  assert.equal(admission.waiting, 0)
  await assert.rejects(failing, /no/)
  assert.equal(await admission.run(async () => 'done', { priority: 'usual' }), 'done')
})

test('if no work ends, waiting work is refused within seconds', async () => {
  const admission = makeAdmission(1)
  const stuck = admission.run(() => sleep(3_000), { priority: 'usual' })
  const start = performance.now()
  await assert.rejects(
    admission.run(async () => {}, { priority: 'usual' }),
    { code: 'database-busy' },
  )
  const waited = performance.now() - start
  assert.ok(waited > 1_900 && waited < 2_900, String(waited))
  await stuck
})

test('at ten times the capacity, as much work is done as before, and the rest is refused at once', async () => {
  const admission = makeAdmission(4)
  const [workMs, seconds] = [20, 3]
  const capacity = (4 * 1000) / workMs
  let isOpen = true
  let done = 0
  let refused = 0
  const waits: number[] = []
  const ask = async () => {
    const start = performance.now()
    try {
      await admission.run(
        async () => {
          waits.push(performance.now() - start)
          await sleep(workMs)
        },
        { priority: 'usual' },
      )
      if (isOpen) done++
    } catch (error) {
      assert.equal((error as { code: string }).code, 'database-busy')
      refused++
    }
  }
  const asked: Promise<void>[] = []
  const end = performance.now() + seconds * 1_000
  for (let owed = 0, last = performance.now(); performance.now() < end; ) {
    const now = performance.now()
    owed += ((now - last) / 1_000) * capacity * 10
    last = now
    for (; owed >= 1; owed--) asked.push(ask())
    await sleep(5)
  }
  isOpen = false
  await Promise.all(asked)
  // Timers and a busy machine lengthen each piece of work, so the bound is low: refusing the rest must cost nothing.
  assert.ok(done >= 0.7 * capacity * seconds, `${done} of ${capacity * seconds}`)
  assert.ok(refused > 5 * done, String(refused))
  assert.ok(Math.max(...waits) < 2_600, String(Math.max(...waits)))
})

test('a client that fills all places does not make another one wait', async () => {
  const admission = makeAdmission(4)
  const leaves: (() => void)[] = []
  for (let count = 0; count < 32; count++)
    admission.enter({ client: 'greedy', priority: 'first' }).then(
      (leave) => leaves.push(leave),
      () => {},
    )
  await sleep(0)
  assert.deepEqual([admission.running, admission.waiting], [4, 28])
  const leave = await admission.enter({ client: 'modest', priority: 'usual' })
  assert.equal(admission.running, 5)
  leave()
  // The spare place is for clients that have nothing running, not for more of the greedy one.
  await sleep(0)
  assert.equal(admission.running, 4)
  while (admission.running > 0) {
    for (const leave of leaves.splice(0)) leave()
    await sleep(0)
  }
})

test('clients get the same database time, whatever their number of connections and the cost of their work', async () => {
  const admission = makeAdmission(2)
  const used: Record<string, number> = { many: 0, few: 0, long: 0 }
  const end = performance.now() + 2_000
  const work = (client: string, ms: number) => async () => {
    while (performance.now() < end) {
      const start = performance.now()
      await admission
        .run(
          async () => {
            const start = performance.now()
            await sleep(ms)
            used[client]! += performance.now() - start
          },
          { client, priority: 'usual' },
        )
        .catch(() => {})
      // If it was refused at once.
      if (performance.now() - start < 1) await sleep(1)
    }
  }
  await Promise.all([
    ...Array.from({ length: 40 }, work('many', 5)),
    ...Array.from({ length: 4 }, work('few', 5)),
    ...Array.from({ length: 4 }, work('long', 50)),
  ])
  const shares = Object.values(used)
  assert.ok(Math.min(...shares) > 0.5 * Math.max(...shares), JSON.stringify(used))
})

test('one client runs no more than its bound, and others are not bound by what it runs', async () => {
  const admission = makeAdmission(4)
  admission.bound(1)
  const leaves: (() => void)[] = []
  const enter = (client: string) => {
    admission.enter({ client, priority: 'usual' }).then((leave) => leaves.push(leave))
    return sleep(0)
  }
  for (const client of ['a', 'a', 'b', 'b', 'c']) await enter(client)
  assert.deepEqual([admission.running, admission.waiting], [3, 2])
  admission.bound(Number.POSITIVE_INFINITY)
  await sleep(0)
  assert.deepEqual([admission.running, admission.waiting], [4, 1])
  for (const leave of leaves.splice(0)) leave()
  await sleep(0)
  for (const leave of leaves.splice(0)) leave()
})

test('however many clients come, few are remembered', async () => {
  const admission = makeAdmission(1)
  for (let count = 0; count < 5_000; count++)
    (await admission.enter({ client: `client ${count}`, priority: 'first' }))()
  assert.ok(admission.known <= 1_000)
})
