// Owns the functions that filters can call besides those of the standard. A further function is one entry.

import { reachOf } from './shape.ts'
import type { FilterFunction } from './term.ts'

/** A function of PostgreSQL that takes the same arguments. */
const native =
  (name: string): FilterFunction['write'] =>
  (writer, operands) => ({ text: `${name}(${operands.map((operand) => writer.term(operand)).join(', ')})` })

const FUNCTIONS: readonly FilterFunction[] = [
  {
    name: 'now',
    description: 'The time at which the query began.',
    parameters: [],
    returns: 'timestamp',
    varies: true,
    write: native('now'),
  },
  {
    name: 'lower',
    description:
      'The text in lower case, after the rules of its column. An index on lower(column) serves it.',
    parameters: [{ name: 'text', type: 'string' }],
    returns: 'string',
    write: native('lower'),
  },
  {
    name: 'upper',
    description:
      'The text in upper case, after the rules of its column. An index on upper(column) serves it.',
    parameters: [{ name: 'text', type: 'string' }],
    returns: 'string',
    write: native('upper'),
  },
  {
    name: 'length',
    description: 'The number of characters of the text.',
    parameters: [{ name: 'text', type: 'string' }],
    returns: 'number',
    write: native('length'),
  },
  {
    name: 'abs',
    description: 'The number without its sign.',
    parameters: [{ name: 'number', type: 'number' }],
    returns: 'number',
    write: native('abs'),
  },
  {
    name: 's_dwithin',
    description: 'True if the geometries are at most so many metres apart, measured on the ground.',
    parameters: [
      { name: 'first', type: 'geometry' },
      { name: 'second', type: 'geometry' },
      { name: 'metres', type: 'number' },
    ],
    returns: 'boolean',
    write(writer, [first, second, metres]) {
      const text = `ST_DWithin(${writer.geography(first!)}, ${writer.geography(second!)}, ${writer.term(metres!)}::float8)`
      const shape = [first!, second!].find((term) => term.is === 'shape')
      const isIndexed = [first!, second!].some(({ is }) => is === 'geometry')
      if (!shape || !isIndexed || metres!.is !== 'literal') return { text }
      return writer.within(text, reachOf(shape.shape, Number(metres!.text)))
    },
  },
]

export type FilterFunctions = {
  readonly list: readonly FilterFunction[]
  /** Returns the function of this name, in any case of its letters. */
  readonly of: (name: string) => FilterFunction | undefined
}

/** Returns the functions of the gateway and further ones. */
export function makeFunctions(further: readonly FilterFunction[]): FilterFunctions {
  const list = [...FUNCTIONS, ...further]
  const byName = new Map(list.map((one) => [one.name.toLowerCase(), one]))
  return { list, of: (name) => byName.get(name.toLowerCase()) }
}

/** Those that need no function of the database's owner. */
export const OWN_FUNCTIONS = makeFunctions([])
export const functionOf = OWN_FUNCTIONS.of
