// Owns the functions of the database that filters can call, because their owner has published them.

import type { Emit } from '../../events.ts'
import { PUBLISHED, type Routine } from '../collections/routine.ts'
import { quoted } from './column-sql.ts'
import { isFunctionName } from './expression.ts'
import { type FilterFunctions, functionOf, makeFunctions } from './functions.ts'
import type { FilterFunction, Term, ValueType, Writer } from './term.ts'

/** How values of PostgreSQL's types are passed to a function, with the type of them in CQL2. */
type Passing = { readonly type: ValueType; readonly write: (writer: Writer, term: Term) => string }

const cast = (type: ValueType, name: string): Passing => ({
  type,
  write: (writer, term) => `(${writer.term(term)})::${name}`,
})
const PASSINGS: ReadonlyMap<string, Passing> = new Map([
  ...['int2', 'int4', 'int8', 'numeric', 'float4', 'float8'].map(
    (name) => [name, cast('number', name)] as const,
  ),
  ...['text', 'varchar'].map((name) => [name, cast('string', name)] as const),
  ['bool', cast('boolean', 'bool')],
  ['date', cast('date', 'date')],
  ['timestamptz', cast('timestamp', 'timestamptz')],
  ['timestamp', { type: 'timestamp', write: (writer, term) => `(${writer.term(term)} at time zone 'UTC')` }],
  ['geometry', { type: 'geometry', write: (writer, term) => writer.geometry(term) }],
  ['geography', { type: 'geometry', write: (writer, term) => writer.geography(term) }],
])

/** Types of results, with the SQL that makes them values of filters. */
const RESULTS: ReadonlyMap<string, readonly [FilterFunction['returns'], (call: string) => string]> = new Map<
  string,
  readonly [FilterFunction['returns'], (call: string) => string]
>([
  ...['int2', 'int4', 'int8', 'numeric', 'float4', 'float8'].map(
    (name) => [name, ['number', (call: string) => call]] as const,
  ),
  ...['text', 'varchar'].map((name) => [name, ['string', (call: string) => `${call}::text`]] as const),
  ['bool', ['boolean', (call) => call]],
  ['date', ['date', (call) => call]],
  ['timestamptz', ['timestamp', (call) => call]],
  ['timestamp', ['timestamp', (call) => `(${call} at time zone 'UTC')`]],
])

const known = new WeakMap<readonly Routine[], FilterFunctions>()

/**
 * Returns the functions that filters can call: those of the gateway, and those that are published. What cannot be called
 * although it is marked is reported, and again when the list changes.
 */
export function functionsOf(routines: readonly Routine[], emit: Emit): FilterFunctions {
  const before = known.get(routines)
  if (before) return before
  const published = routines.flatMap((routine) => {
    const reason = refusalOf(routine, routines)
    if (!reason) return makeFunction(routine)
    emit({ type: 'function-unpublished', function: `${routine.schema}.${routine.name}`, reason })
    return []
  })
  const functions = makeFunctions(published)
  known.set(routines, functions)
  return functions
}

/** Returns why a function cannot be called; undefined if it can be. */
function refusalOf(routine: Routine, routines: readonly Routine[]): string | undefined {
  const { name, isPlain, isStable, isAllowed, returns } = routine
  if (!isPlain) return 'it is no plain function of single values with one result'
  if (!isStable) return 'it is volatile; it must be stable or immutable'
  if (!isAllowed) return 'the role of the read port must be able to use its schema and to execute it'
  const unknown = routine.arguments.find(({ type }) => !PASSINGS.has(type))
  if (unknown) return `filters have no values for its argument of type ${unknown.type}`
  if (!RESULTS.has(returns)) return `filters have no values of its result's type ${returns}`
  if (!isFunctionName(name)) return 'its name is a word of CQL2, or would have to be quoted'
  if (functionOf(name)) return 'the gateway has a function of this name'
  const isSame = (other: Routine) => other !== routine && other.name.toLowerCase() === name.toLowerCase()
  return routines.some(isSame) ? 'another published function has the same name' : undefined
}

function makeFunction({
  schema,
  name,
  comment,
  isImmutable,
  arguments: taken,
  returns,
}: Routine): FilterFunction {
  const [type, result] = RESULTS.get(returns)!
  return {
    name,
    description: comment.slice(PUBLISHED.length).trim(),
    parameters: taken.map((argument, index) => ({
      name: argument.name || `argument ${index + 1}`,
      type: PASSINGS.get(argument.type)!.type,
    })),
    returns: type,
    isPublished: true,
    varies: !isImmutable,
    write(writer, operands) {
      const passed = operands.map((term, index) => PASSINGS.get(taken[index]!.type)!.write(writer, term))
      return { text: result(`${quoted(schema)}.${quoted(name)}(${passed.join(', ')})`) }
    },
  }
}
