// Owns the builder of filters: each function returns a part of a filter as CQL2-JSON. filter.d.ts documents them.

export const where = (condition) => ({
  // A condition that is missing becomes null, which the gateway refuses: without a filter, it would find everything.
  filter: JSON.stringify(condition ?? null),
  'filter-lang': 'cql2-json',
})

export const propertiesOf = () =>
  new Proxy({}, { get: (_, name) => (typeof name === 'string' ? { property: name } : undefined) })

const operand = (value) => {
  if (value instanceof Date) return timestamp(value)
  return Array.isArray(value) ? value.map(operand) : value
}

export const call = (op, ...args) => ({ op, args: args.map(operand) })

const operator =
  (op) =>
  (...args) =>
    call(op, ...args)
/** CQL2 joins at least two conditions; a single one is itself, and none leave `empty`. */
const joined =
  (op, empty) =>
  (...conditions) =>
    conditions.length > 1 ? call(op, ...conditions) : conditions.length === 1 ? conditions[0] : empty

export const and = joined('and', true)
export const or = joined('or', false)
export const not = operator('not')

export const eq = operator('=')
export const ne = operator('<>')
export const lt = operator('<')
export const lte = operator('<=')
export const gt = operator('>')
export const gte = operator('>=')
export const between = operator('between')
export const isIn = operator('in')
export const isNull = operator('isNull')
export const like = operator('like')
export const casei = operator('casei')
export const accenti = operator('accenti')

export const add = operator('+')
export const subtract = operator('-')
export const multiply = operator('*')
export const divide = operator('/')
export const divideWhole = operator('div')
export const modulo = operator('%')
export const power = operator('^')

export const bbox = (...bounds) => ({ bbox: bounds })
export const sContains = operator('s_contains')
export const sCrosses = operator('s_crosses')
export const sDisjoint = operator('s_disjoint')
export const sEquals = operator('s_equals')
export const sIntersects = operator('s_intersects')
export const sOverlaps = operator('s_overlaps')
export const sTouches = operator('s_touches')
export const sWithin = operator('s_within')

const textOf = (time) => (time instanceof Date ? time.toISOString() : time)
export const date = (day) => ({ date: day instanceof Date ? textOf(day).replace(/T.*/, '') : day })
export const timestamp = (time) => ({ timestamp: textOf(time) })
/** Bounds of an interval are plain texts, unless they are computed. */
const bound = (time) => time.date ?? time.timestamp ?? textOf(time)
export const interval = (start, end) => ({ interval: [bound(start), bound(end)] })

export const tAfter = operator('t_after')
export const tBefore = operator('t_before')
export const tContains = operator('t_contains')
export const tDisjoint = operator('t_disjoint')
export const tDuring = operator('t_during')
export const tEquals = operator('t_equals')
export const tFinishedBy = operator('t_finishedBy')
export const tFinishes = operator('t_finishes')
export const tIntersects = operator('t_intersects')
export const tMeets = operator('t_meets')
export const tMetBy = operator('t_metBy')
export const tOverlappedBy = operator('t_overlappedBy')
export const tOverlaps = operator('t_overlaps')
export const tStartedBy = operator('t_startedBy')
export const tStarts = operator('t_starts')

export const aContainedBy = operator('a_containedBy')
export const aContains = operator('a_contains')
export const aEquals = operator('a_equals')
export const aOverlaps = operator('a_overlaps')

export const now = operator('now')
export const lower = operator('lower')
export const upper = operator('upper')
export const length = operator('length')
export const abs = operator('abs')
export const sDwithin = operator('s_dwithin')
