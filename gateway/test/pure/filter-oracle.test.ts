// Tests the reader of CQL2 text against another one: the package cql2 of Python.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { printJson } from '../../features/filter/cql2-json.ts'
import { parseText } from '../../features/filter/cql2-text.ts'
import { needsReaders, python } from '../support/python.ts'

const read = (name: string) =>
  JSON.parse(readFileSync(new URL(`../data/cql2/${name}`, import.meta.url), 'utf8'))
const filters: string[] = [
  ...read('annex-a.json').map(({ predicate }: { predicate: string }) => predicate),
  ...read('examples.json').map(({ text }: { text: string }) => text),
  '-foo = 1 - -2 * +3',
  'NOT NOT a = 1 AND notes = 1',
  'a = 2 ^ b + 1 div c % d',
  'a BETWEEN 1 AND 2 AND b = 3 OR c NOT BETWEEN d + 1 AND 5',
  "A_CONTAINS(x, ('a'))",
  '(a = 1 OR b = 2) AND (c = 3 AND (d = 4 AND e = 5))',
  '(a = 1 AND b = 2) IS NULL',
]
const PROGRAM =
  'import cql2,json,sys;print(json.dumps([cql2.parse_text(t).to_json() for t in json.load(sys.stdin)]))'

/** Spells both alike: the other reader keeps the sign of a zero and the zeros of fractions, and joins nested chains. */
const alike = (json: unknown): unknown => {
  if (Array.isArray(json)) return json.map(alike)
  if (json === 0) return 0
  if (typeof json === 'string')
    return json.replace(/(:\d\d)(\.\d*?)0*Z$/, (_all, time, rest) => `${time}${rest === '.' ? '' : rest}Z`)
  if (typeof json !== 'object' || json === null) return json
  const { op, args } = json as { op?: string; args?: { op?: string; args: unknown[] }[] }
  if (op === 'and' || op === 'or')
    return {
      op,
      args: args!.map(alike).flatMap((arg) => {
        const part = arg as { op?: string; args: unknown[] }
        return part.op === op ? part.args : [part]
      }),
    }
  return Object.fromEntries(Object.entries(json).map(([name, value]) => [name, alike(value)]))
}

test('the reader of the Python package cql2 reads every filter alike', needsReaders, () => {
  const { stdout, stderr, status } = spawnSync(python!, ['-c', PROGRAM], {
    input: JSON.stringify(filters),
    encoding: 'utf8',
  })
  assert.equal(status, 0, stderr)
  const theirs = JSON.parse(stdout) as unknown[]
  for (const [index, filter] of filters.entries())
    assert.deepEqual(alike(JSON.parse(printJson(parseText(filter).expression))), alike(theirs[index]), filter)
})
