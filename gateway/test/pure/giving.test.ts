// Tests that no caller can give what it does not have: for any caller, any key and any rules.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { ApiKey } from '../../features/access/api-key.ts'
import { excessOf, excessOfRule, excessOfTime } from '../../features/access/giving.ts'
import {
  ANY_SUBJECT_ROLE,
  GRANT_ROLE,
  holderOf,
  MANAGE_ROLE,
  mayGrant,
  mayManage,
  mayOperate,
  OPERATE_ROLE,
  type Principal,
  subjectOf,
  WRITE_ROLE,
} from '../../features/access/principal.ts'
import { GROUPS, isAmong, isKeyFor, type Rules } from '../../features/access/rules.ts'

const COLLECTIONS = ['a', 'b', 'c']
const ROLES = ['x', 'y', WRITE_ROLE, MANAGE_ROLE, GRANT_ROLE, OPERATE_ROLE, ANY_SUBJECT_ROLE]
const some = (texts: readonly string[]) => fc.subarray([...texts])

const rights = fc
  .record({
    canWrite: fc.boolean(),
    canManage: fc.boolean(),
    canGrant: fc.boolean(),
    collections: fc.option(fc.subarray(COLLECTIONS, { minLength: 1 }), { nil: undefined }),
    roles: fc.option(some(ROLES), { nil: undefined }),
  })
  // Neither the command nor the API creates others.
  .map(({ canManage, canGrant, ...rest }) => ({
    ...rest,
    canManage: canManage && rest.canWrite && !rest.roles,
    canGrant: canGrant && !rest.roles,
  }))
const key = rights.map((given): ApiKey => ({ id: 'k', name: 'k', ...given }))
const caller: fc.Arbitrary<Principal> = fc.oneof(
  key.map(holderOf),
  some(ROLES).map((roles) => subjectOf('https://issuer.example', 'somebody', roles, '{}')),
)
const rules: fc.Arbitrary<Rules> = fc.record({
  readers: fc.option(some(ROLES), { nil: undefined }),
  creators: fc.option(some(ROLES), { nil: undefined }),
  editors: fc.option(some(ROLES), { nil: undefined }),
  removers: fc.option(some(ROLES), { nil: undefined }),
})

/** Returns all that a caller may do, under rules of each collection. */
function abilitiesOf(principal: Principal, rulesOf: readonly Rules[]): Set<string> {
  const may = new Set<string>()
  for (const [index, id] of COLLECTIONS.entries()) {
    for (const group of GROUPS)
      if (isAmong(group, principal, { id, rules: rulesOf[index] })) may.add(`${group} of ${id}`)
    if (mayManage(principal) && (!principal.key || isKeyFor(principal.key, id, 'editors')))
      may.add(`manage ${id}`)
  }
  if (mayOperate(principal)) may.add('operate')
  if (mayGrant(principal)) may.add('grant')
  return may
}
const isWithin = (one: ReadonlySet<string>, other: ReadonlySet<string>) =>
  [...one].every((able) => other.has(able))

test('a key permits nothing that its giver may not do, whatever the rules are and will be', () => {
  let given = 0
  fc.assert(
    fc.property(caller, key, fc.tuple(rules, rules, rules), (giver, made, rulesOf) => {
      if (!mayGrant(giver) || excessOf(giver, made).length > 0) return
      given += 1
      const [own, others] = [abilitiesOf(giver, rulesOf), abilitiesOf(holderOf(made), rulesOf)]
      assert.ok(isWithin(others, own), `${[...others].filter((able) => !own.has(able))}`)
    }),
    { numRuns: 20_000 },
  )
  assert.ok(given > 1_000, `${given} keys were given`)
})

test('what a key may give in its turn is no more than its giver could', () => {
  fc.assert(
    fc.property(caller, key, key, (giver, made, next) => {
      if (!mayGrant(giver) || excessOf(giver, made).length > 0) return
      const holder = holderOf(made)
      if (!mayGrant(holder) || excessOf(holder, next).length > 0) return
      assert.deepEqual(excessOf(giver, next), [])
    }),
    { numRuns: 20_000 },
  )
})

test('a caller can give a key like its own', () => {
  fc.assert(
    fc.property(key, (own) => {
      const giver = holderOf(own)
      if (mayGrant(giver)) assert.deepEqual(excessOf(giver, own), [])
    }),
  )
})

test('a caller that sets a rule is among those for whom it is, before it does', () => {
  fc.assert(
    fc.property(caller, rules, rules, (giver, before, rule) => {
      const collection = { id: 'a', rules: before }
      const refused = new Set(excessOfRule(giver, collection, rule).map(({ pointer }) => pointer))
      for (const group of GROUPS)
        assert.equal(refused.has(`/${group}`), !isAmong(group, giver, collection), group)
    }),
  )
})

test('each excess names its part of the definition', () => {
  const giver = holderOf({
    id: 'k',
    name: 'k',
    canWrite: false,
    canManage: false,
    canGrant: true,
    collections: ['a'],
    roles: undefined,
    expiresAt: new Date('2031-01-01'),
  })
  const all = { canWrite: true, canManage: true, canGrant: true, collections: ['a', 'b'], roles: undefined }
  assert.deepEqual(
    excessOf(giver, all).map(({ pointer }) => pointer),
    ['/readOnly', '/collections/1', '/manage'],
  )
  assert.deepEqual(
    excessOf(giver, { ...all, canWrite: false, canManage: false, collections: undefined }).map(
      ({ pointer }) => pointer,
    ),
    ['/collections'],
  )
  const subject = subjectOf('https://issuer.example', 'somebody', ['x', GRANT_ROLE], '{}')
  assert.deepEqual(
    excessOf(subject, { ...all, canManage: false, canGrant: false, roles: ['x', 'y'] }).map(
      ({ pointer }) => pointer,
    ),
    ['/roles/1'],
  )
  assert.deepEqual(excessOf(subject, all)[0]!.pointer, '/roles')
  assert.equal(excessOfTime(giver, new Date('2031-01-02'))[0]!.pointer, '/expires')
  assert.deepEqual(excessOfTime(giver, new Date('2030-12-31')), [])
  assert.deepEqual(excessOfTime(subject, new Date('2040-01-01')), [])
})
