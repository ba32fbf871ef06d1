// Tests that each declared conformance class has its requirements tested, and that the document of them is current.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { conformsTo } from '../../app.ts'
import { CONFORMANCE_FILE, makeConformance, namedTests, testsOf } from '../support/conformance.ts'
import { REQUIREMENTS } from '../support/requirements.ts'

test('docs/reference/conformance.md is current (npm run conformance rewrites it)', () => {
  assert.equal(readFileSync(CONFORMANCE_FILE, 'utf8'), makeConformance())
})

test('every requirement of a declared class has a test that is named by it', () => {
  for (const uri of conformsTo) assert.ok(REQUIREMENTS.has(uri), `${uri} has no requirements`)
  const missing = conformsTo.flatMap((uri) =>
    REQUIREMENTS.get(uri)!.filter((one) => testsOf(one).length === 0),
  )
  assert.deepEqual(missing, [])
})

test('every test that is named by a requirement names one that there is', () => {
  const known = new Set([...REQUIREMENTS.values()].flat())
  const unknown = namedTests.flatMap(({ requirements }) => requirements.filter((one) => !known.has(one)))
  assert.deepEqual(unknown, [])
})
