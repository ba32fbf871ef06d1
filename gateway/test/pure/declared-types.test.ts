// Tests which types of columns follow from what other servers declare.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { typesOfSchema } from '../../features/import/remote/declared-types.ts'

const typeOf = (property: unknown, aspect: 'schema' | 'queryables' = 'schema') =>
  typesOfSchema({ properties: { a: property } }, aspect).get('a')

test('a type of JSON Schema and its format give the type of the column', () => {
  assert.equal(typeOf({ type: 'integer' }), 'bigint')
  assert.equal(typeOf({ type: 'integer', format: 'int32' }), 'integer')
  assert.equal(typeOf({ type: 'number' }), 'numeric')
  assert.equal(typeOf({ type: ['null', 'number'], format: 'double' }), 'double precision')
  assert.equal(typeOf({ type: 'string' }), 'text')
  assert.equal(typeOf({ type: 'string', format: 'date' }), 'date')
  assert.equal(typeOf({ type: 'string', format: 'email' }), 'text')
  assert.equal(typeOf({ type: 'array', items: { type: 'integer' } }), 'jsonb')
  assert.equal(typeOf({ type: ['object', 'string'] }), 'jsonb')
})

test('queryables that are only texts or numbers declare nothing', () => {
  assert.equal(typeOf({ type: 'string' }, 'queryables'), undefined)
  assert.equal(typeOf({ type: 'number' }, 'queryables'), undefined)
  assert.equal(typeOf({ type: 'string', format: 'email' }, 'queryables'), undefined)
  assert.equal(typeOf({ type: 'string', format: 'date-time' }, 'queryables'), 'timestamptz')
  assert.equal(typeOf({ type: 'boolean' }, 'queryables'), 'boolean')
})

test('what is no schema declares nothing', () => {
  for (const property of [
    undefined,
    null,
    true,
    { type: 7 },
    { type: 'geometry' },
    { $ref: 'https://x' },
    { type: [] },
  ])
    assert.equal(typeOf(property), undefined)
  for (const schema of [null, [], {}, { properties: [] }, 'x'])
    assert.equal(typesOfSchema(schema, 'schema').size, 0)
})
