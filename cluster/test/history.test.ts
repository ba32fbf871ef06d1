// The checker of the nemesis suite, with broken histories: no scenario would show a breach that the checker misses.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Fate, findViolations, type Occurrence, type Remains } from '../scenarios/history.ts'

const insertion = (mark: string, fate: Fate): Occurrence => ({ kind: 'insertion', mark, fate })
const setting = (value: number, fate: Fate, register = 'r'): Occurrence => ({
  kind: 'setting',
  register,
  value,
  fate,
})
const look = (value: number, { atLeast = 0, session, register = 'r' }: Partial<Look> = {}): Occurrence => ({
  kind: 'look',
  register,
  value,
  atLeast,
  session,
})
type Look = { atLeast: number; session: string; register: string }
const remains = (marks: Record<string, number>, registers: Record<string, number> = {}): Remains => ({
  marks: new Map(Object.entries(marks)),
  registers: new Map(Object.entries(registers)),
})
const promisesOf = (history: readonly Occurrence[], end: Remains) =>
  findViolations(history, end).map(({ promise }) => promise)

test('an honest history is no breach', () => {
  const history = [
    insertion('a', 'done'),
    insertion('b', 'unknown'),
    insertion('c', 'unknown'),
    insertion('d', 'refused'),
    setting(1, 'done'),
    setting(2, 'unknown'),
    setting(3, 'refused'),
    look(1, { atLeast: 1, session: 's' }),
    look(2, { session: 's' }),
    // A look of another session, or without a session, may be older.
    look(1, { session: 't' }),
    look(0),
    { kind: 'scan', expected: ['r', 'q'], seen: ['q', 'r'] },
  ] satisfies Occurrence[]
  assert.deepEqual(promisesOf(history, remains({ a: 1, b: 1 }, { r: 2 })), [])
  assert.deepEqual(promisesOf([], remains({})), [])
})

const broken: Record<string, [history: Occurrence[], end: Remains, promise: string]> = {
  'an acknowledged feature that is not there': [
    [insertion('a', 'done')],
    remains({}),
    'an acknowledged change is lost',
  ],
  'an acknowledged value that an older one has replaced': [
    [setting(1, 'done'), setting(2, 'done')],
    remains({}, { r: 1 }),
    'an acknowledged change is lost',
  ],
  'a register that is gone': [[setting(1, 'unknown')], remains({}), 'an acknowledged change is lost'],
  'a feature that was made twice': [
    [insertion('a', 'done')],
    remains({ a: 2 }),
    'a change has happened twice',
  ],
  'an unknown feature that was made twice': [
    [insertion('a', 'unknown')],
    remains({ a: 2 }),
    'a change has happened twice',
  ],
  'a refused feature that is there': [
    [insertion('a', 'refused')],
    remains({ a: 1 }),
    'a change that was refused has happened',
  ],
  'a refused value that is there': [
    [setting(1, 'done'), setting(2, 'refused')],
    remains({}, { r: 2 }),
    'a change that was refused has happened',
  ],
  'a refused value that was seen meanwhile': [
    [setting(1, 'refused'), setting(2, 'done'), look(1)],
    remains({}, { r: 2 }),
    'a change that was refused has happened',
  ],
  'a feature that nobody made': [[], remains({ x: 1 }), 'a change has happened that nobody made'],
  'a value that nobody set': [
    [setting(1, 'done')],
    remains({}, { r: 7 }),
    'a change has happened that nobody made',
  ],
  'a look that does not show the own change': [
    [setting(1, 'done'), setting(2, 'done'), look(1, { atLeast: 2 })],
    remains({}, { r: 2 }),
    'a read is older than the own change',
  ],
  'a session that goes backwards, with another register between': [
    [
      setting(1, 'done'),
      setting(2, 'done'),
      setting(1, 'done', 'q'),
      look(2, { session: 's' }),
      look(1, { session: 's', register: 'q' }),
      look(1, { session: 's' }),
    ],
    remains({}, { r: 2, q: 1 }),
    'reads go backwards',
  ],
  'a page that lacks a feature': [
    [{ kind: 'scan', expected: ['r', 'q'], seen: ['r'] }],
    remains({}),
    'a page lacks a feature, or has it twice',
  ],
  'a page with a feature twice': [
    [{ kind: 'scan', expected: ['r'], seen: ['r', 'r'] }],
    remains({}),
    'a page lacks a feature, or has it twice',
  ],
}
for (const [name, [history, end, promise]] of Object.entries(broken))
  test(`found: ${name}`, () => {
    assert.deepEqual(promisesOf(history, end), [promise])
  })
