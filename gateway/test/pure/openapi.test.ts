// Tests the contract: openapi.json matches the routes, and a public linter finds no fault in it.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { createConfig, lintFromString } from '@redocly/openapi-core'
import { DOCUMENT_FILE, makeDocument, makeTypes, TYPES_FILE } from '../../../openapi/document.ts'

const committed = readFileSync(DOCUMENT_FILE, 'utf8')

test('/req/oas30/oas-impl, /req/oas30/completeness: openapi.json matches the routes (npm run openapi rewrites it)', async () => {
  assert.equal(committed, await makeDocument())
})

test("the client's types match the document", async () => {
  assert.equal(readFileSync(TYPES_FILE, 'utf8'), await makeTypes(committed))
})

test('/req/oas30/oas-definition-2: a linter finds no fault', async () => {
  const config = await createConfig({ extends: ['recommended'] })
  const problems = await lintFromString({ source: committed, absoluteRef: 'openapi.json', config })
  assert.deepEqual(
    problems.map(({ ruleId, message, location }) => [ruleId, message, location[0]?.pointer]),
    [],
  )
})
