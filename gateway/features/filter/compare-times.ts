// Owns comparisons of dates, times and intervals in SQL. A date that is compared with a time stands for its day in UTC, as
// in the parameter datetime; bounds are computed here, so that an index on the column is used.

import { columnSql } from './column-sql.ts'
import { flip } from './compare-numbers.ts'
import type { Comparison, Temporal } from './expression.ts'
import { type Literal, literal, type Term, type Writer } from './term.ts'

export function compareTimes(writer: Writer, left: Term, op: Comparison, right: Term): string {
  // `..` is an infinity of the type that it is compared with.
  const [first, last] = [asInfinity(left, right), asInfinity(right, left)]
  if (first || last) return comparePlain(writer, first ?? left, op, last ?? right)
  if (left.type === right.type) return comparePlain(writer, left, op, right)
  if (left.type === 'date') return compareTimes(writer, right, flip(op), left)
  // The left is a time now, and the right a date.
  if (left.is === 'literal') return comparePlain(writer, literal('date', left.text.slice(0, DATE)), op, right)
  if (right.is === 'literal') return compareDay(writer, left, op, right.text)
  return `((${writer.term(left)} at time zone 'UTC')::date ${op} ${writer.term(right)})`
}

const DATE = 'YYYY-MM-DD'.length

/** Returns an infinity as one of the other's type; undefined if the term is none. */
const asInfinity = (term: Term, { type }: Term): Literal | undefined =>
  term.is === 'literal' && term.text.endsWith('infinity')
    ? literal(type === 'date' ? 'date' : 'timestamp', term.text)
    : undefined

/** Compares dates with each other, or times. */
function comparePlain(writer: Writer, left: Term, op: Comparison, right: Term): string {
  const column = [left, right].find((term) => term.is === 'column')?.column
  const isBare = column?.type === 'timestamp' && [left, right].some(({ is }) => is === 'literal')
  const write = (term: Term) => {
    if (term.is === 'column' && (isBare || term.type === 'date')) return columnSql(term.column)
    // A time without a zone is in UTC.
    if (term.is === 'literal' && isBare) return `${writer.bind(term.text.replace('Z', ''))}::timestamp`
    return writer.term(term)
  }
  return `(${write(left)} ${op} ${write(right)})`
}

/** Compares a time with a day. */
function compareDay(writer: Writer, time: Term, op: Comparison, day: string): string {
  const start = literal('timestamp', `${day}T00:00:00Z`)
  const next = literal('timestamp', `${dayAfter(day)}T00:00:00Z`)
  switch (op) {
    case '<':
    case '>=':
      return comparePlain(writer, time, op, start)
    case '<=':
      return comparePlain(writer, time, '<', next)
    case '>':
      return comparePlain(writer, time, '>=', next)
    case '=':
      return `(${comparePlain(writer, time, '>=', start)} and ${comparePlain(writer, time, '<', next)})`
    default:
      return `(${comparePlain(writer, time, '<', start)} or ${comparePlain(writer, time, '>=', next)})`
  }
}

function dayAfter(day: string): string {
  const date = new Date(`${day}T00:00:00Z`)
  date.setUTCDate(date.getUTCDate() + 1)
  // After the year 9999, JavaScript writes more digits and a sign.
  return date.toISOString().replace(/T.*/, '').replace(/^\+0*/, '')
}

/** What a temporal function compares: bounds of its operands, 1 and 2 for the start and the end of each. */
type Comparisons = readonly (readonly [left: 'a1' | 'a2', op: Comparison, right: 'b1' | 'b2'])[]

/** Every comparison must hold (OGC 21-065r2, tables 8 and 9); t_disjoint is the opposite of t_intersects. */
const RELATIONS: Readonly<Record<Exclude<Temporal, 't_disjoint'>, Comparisons>> = {
  t_after: [['a1', '>', 'b2']],
  t_before: [['a2', '<', 'b1']],
  t_equals: [
    ['a1', '=', 'b1'],
    ['a2', '=', 'b2'],
  ],
  t_intersects: [
    ['a1', '<=', 'b2'],
    ['a2', '>=', 'b1'],
  ],
  t_contains: [
    ['a1', '<', 'b1'],
    ['a2', '>', 'b2'],
  ],
  t_during: [
    ['a1', '>', 'b1'],
    ['a2', '<', 'b2'],
  ],
  t_finishedBy: [
    ['a1', '<', 'b1'],
    ['a2', '=', 'b2'],
  ],
  t_finishes: [
    ['a1', '>', 'b1'],
    ['a2', '=', 'b2'],
  ],
  t_meets: [['a2', '=', 'b1']],
  t_metBy: [['a1', '=', 'b2']],
  t_overlappedBy: [
    ['a1', '>', 'b1'],
    ['a1', '<', 'b2'],
    ['a2', '>', 'b2'],
  ],
  t_overlaps: [
    ['a1', '<', 'b1'],
    ['a2', '>', 'b1'],
    ['a2', '<', 'b2'],
  ],
  t_startedBy: [
    ['a1', '=', 'b1'],
    ['a2', '>', 'b2'],
  ],
  t_starts: [
    ['a1', '=', 'b1'],
    ['a2', '<', 'b2'],
  ],
}

export function relateTimes(writer: Writer, op: Temporal, left: Term, right: Term): string {
  const bounds = {
    a1: left.is === 'interval' ? left.start : left,
    a2: left.is === 'interval' ? left.end : left,
    b1: right.is === 'interval' ? right.start : right,
    b2: right.is === 'interval' ? right.end : right,
  }
  if (op === 't_disjoint') {
    const [before, after] = [RELATIONS.t_before[0]!, RELATIONS.t_after[0]!].map(([one, comparison, other]) =>
      compareTimes(writer, bounds[one], comparison, bounds[other]),
    )
    return `(${before} or ${after})`
  }
  const all = RELATIONS[op].map(([one, comparison, other]) =>
    compareTimes(writer, bounds[one], comparison, bounds[other]),
  )
  return `(${all.join(' and ')})`
}
