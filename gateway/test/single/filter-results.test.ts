// Tests what filters find, compared with an evaluator in this file over random rows, with unknown values among them.

import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { printJson } from '../../features/filter/cql2-json.ts'
import { parseText } from '../../features/filter/cql2-text.ts'
import { startGateway } from '../support/gateway.ts'
import { makeRandom } from '../support/random.ts'

const { client, session, catalog } = await startGateway()
const random = makeRandom(22)
const upTo = (count: number) => Math.floor(random() * count)
const pick = <T>(from: readonly T[]): T => from[upTo(from.length)]!

type Row = Record<string, any>
/** A condition or value as text, and what it is for a row; null is unknown. */
type Made<T> = { readonly text: string; readonly of: (row: Row) => T | null }
type Truth = boolean | null

const WORDS = [
  '',
  'a',
  'A',
  'abc',
  'aXc',
  'b%',
  'Bern',
  'bern',
  'BERN',
  'x_y',
  'Zürich',
  'Zurich',
  'ZÜRICH',
  'z\\b',
]
const CODES = [1, 2, 3].map((digit) => `00000000-0000-0000-0000-00000000000${digit}`)
const MOODS = ['good', 'bad', 'ugly']
const DAYS = ['2020-01-01', '2020-01-02', '2020-02-29', '2019-12-31']
const TIMES = [
  '2020-01-01T00:00:00Z',
  '2020-01-01T23:59:59.999999Z',
  '2020-01-02T12:00:00Z',
  '2019-12-31T12:30:00.5Z',
]
const NUMBERS = [-2, -1, 0, 0.5, 1, 2, 3, 7, 100]
const LITERALS = [...NUMBERS, 2.5, 40_000, 3_000_000_000, 99_999_999_999, -99_999_999_999, 1e30]
const maybe = <T>(value: T): T | null => (random() < 0.25 ? null : value)
const list = <T>(from: readonly T[]) => Array.from({ length: upTo(4) }, () => pick(from))

const rows: Row[] = Array.from({ length: 150 }, (_, index) => ({
  id: index + 1,
  small: maybe(pick(NUMBERS.filter(Number.isInteger))),
  whole: maybe(pick(NUMBERS.filter(Number.isInteger))),
  big: maybe(pick(NUMBERS.filter(Number.isInteger))),
  float: maybe(pick(NUMBERS)),
  single: maybe(pick(NUMBERS)),
  exact: maybe(pick(NUMBERS)),
  name: maybe(pick(WORDS)),
  other: maybe(pick(WORDS)),
  code: maybe(pick(CODES)),
  mood: maybe(pick(MOODS)),
  flag: maybe(random() < 0.5),
  day: maybe(pick(DAYS)),
  seen: maybe(pick(TIMES)),
  noted: maybe(pick(TIMES)),
  tags: maybe(list(['a', 'b', 'c'])),
  counts: maybe(list([1, 2, 3])),
  geom: maybe([upTo(20) - 10, upTo(20) - 10]),
}))

before(async () => {
  await session.query(`create type temper as enum ('good', 'bad', 'ugly')`)
  await session.query(`create domain amount as numeric check (value > -1000)`)
  await session.query(`
    create table filtered (id int primary key, geom geometry(Point, 4326), small int2, whole int4, big int8, float float8,
      single float4, exact amount, name text, other varchar(20) collate "C", code uuid, mood temper, flag bool, day date,
      seen timestamptz, noted timestamp, tags text[], counts int4[])`)
  await session.query(
    `insert into filtered
     select id, case when geom is not null then st_setsrid(st_makepoint((geom->>0)::float8, (geom->>1)::float8), 4326) end,
       small, whole, big, float, single, exact, name, other, code, mood, flag, day, seen::timestamptz,
       seen_at.noted::timestamptz at time zone 'UTC', tags, counts
     from json_to_recordset($1) as seen_at (id int, geom json, small int2, whole int4, big int8, float float8, single float4,
       exact numeric, name text, other text, code uuid, mood temper, flag bool, day date, seen text, noted text, tags text[],
       counts int4[])`,
    [JSON.stringify(rows)],
  )
  await catalog.reload()
})

const column = (name: string): Made<any> => ({
  text: name === 'float' ? '"float"' : name,
  of: (row) => row[name],
})
const value = <T>(text: string, of: T): Made<T> => ({ text, of: () => of })
const combined = <T, R>(
  parts: readonly Made<T>[],
  text: string,
  of: (...values: T[]) => R | null,
): Made<R> => ({
  text,
  of(row) {
    const values = parts.map((part) => part.of(row))
    return values.some((one) => one === null) ? null : of(...(values as T[]))
  },
})

const quote = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
const numberLiteral = (from: readonly number[] = LITERALS) => {
  const number = pick(from)
  return value(String(number), number)
}
const numberColumn = () => column(pick(['small', 'whole', 'big', 'float', 'single', 'exact', 'id']))

function makeNumber(depth: number): Made<number> {
  if (depth === 0 || random() < 0.5) return random() < 0.6 ? numberColumn() : numberLiteral(NUMBERS)
  const op = pick(['+', '-', '*', '/', 'div', '%', '^'])
  const left = makeNumber(depth - 1)
  // These divisors give quotients that are exact in binary and in decimal digits.
  const right = op === '/' ? numberLiteral([0, 0.5, 2]) : makeNumber(depth - 1)
  if (op === '^') {
    const base = numberColumn()
    return combined([base], `(${base.text} ^ 2)`, (a) => a ** 2)
  }
  return combined([left, right], `(${left.text} ${op} ${right.text})`, (a, b) => {
    if (/^(\/|div|%)$/.test(op) && b === 0) return null
    switch (op) {
      case '+':
        return a + b
      case '-':
        return a - b
      case '*':
        return a * b
      case '/':
        return a / b
      case 'div':
        return Math.trunc(a / b)
      default:
        return a % b
    }
  })
}

const OPS = ['=', '<>', '<', '>', '<=', '>='] as const
const holds = (op: string, order: number) =>
  ({
    '=': order === 0,
    '<>': order !== 0,
    '<': order < 0,
    '>': order > 0,
    '<=': order <= 0,
    '>=': order >= 0,
  })[op]!
const orderOf = (a: any, b: any) => (a < b ? -1 : a > b ? 1 : 0)
/** Numbers that differ only by rounding are equal. */
const orderOfNumbers = (a: number, b: number) =>
  Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b)) ? 0 : orderOf(a, b)
const compared = <T>(
  left: Made<T>,
  op: string,
  right: Made<T>,
  order: (a: T, b: T) => number,
): Made<boolean> =>
  combined([left, right], `${left.text} ${op} ${right.text}`, (a, b) => holds(op, order(a, b)))

const textValue = (): Made<string> =>
  random() < 0.6 ? column(pick(['name', 'other'])) : ((word) => value(quote(word), word))(pick(WORDS))

/** Returns the time in microseconds. */
const microseconds = (time: string) =>
  Date.parse(`${time.slice(0, 19)}Z`) * 1_000 + Number((time.slice(19, -1) || '.0').slice(1).padEnd(6, '0'))
const isDay = (time: string) => time.length === 10
/** A date that is compared with a time stands for its day. */
const orderOfTimes = (a: string, b: string) => {
  if (/infinity/.test(a + b)) return orderOf(rankOf(a), rankOf(b))
  return isDay(a) || isDay(b)
    ? orderOf(a.slice(0, 10), b.slice(0, 10))
    : orderOf(microseconds(a), microseconds(b))
}
const rankOf = (time: string) => (time === 'infinity' ? 1 : time === '-infinity' ? -1 : 0)
const instant = (): Made<string> => {
  if (random() < 0.5) return column(pick(['day', 'seen', 'noted']))
  const text = pick(random() < 0.5 ? DAYS : TIMES)
  return value(`${isDay(text) ? 'DATE' : 'TIMESTAMP'}('${text}')`, text)
}

/** A bound that is null is unknown. */
type Interval = readonly [start: string | null, end: string | null]
function makeInterval(): Made<Interval> {
  if (random() < 0.5) {
    const [start, end] = [column(pick(['seen', 'noted', 'day'])), column(pick(['seen', 'noted', 'day']))]
    return { text: `INTERVAL(${start.text},${end.text})`, of: (row) => [start.of(row), end.of(row)] }
  }
  const [start, end] = [pick(TIMES), pick(TIMES)].toSorted((a, b) => microseconds(a) - microseconds(b)) as [
    string,
    string,
  ]
  const open = upTo(4)
  const bounds: Interval = [open === 1 ? '-infinity' : start, open === 2 ? 'infinity' : end]
  return value(`INTERVAL('${open === 1 ? '..' : start}','${open === 2 ? '..' : end}')`, bounds)
}
const asInterval = (made: Made<string>): Made<Interval> => ({
  text: made.text,
  of: (row) => [made.of(row), made.of(row)],
})

/** Relations by the order of start and start, start and end, end and start, end and end. */
const RELATIONS: Record<string, string> = {
  T_AFTER: ' > ',
  T_BEFORE: '  <',
  T_EQUALS: '=  =',
  T_CONTAINS: '<  >',
  T_DURING: '>  <',
  T_FINISHEDBY: '<  =',
  T_FINISHES: '>  =',
  T_MEETS: '  =',
  T_METBY: ' =',
  T_OVERLAPPEDBY: '>< >',
  T_OVERLAPS: '< ><',
  T_STARTEDBY: '=  >',
  T_STARTS: '=  <',
}
const isRelated = (name: string, [start, end]: Interval, [first, last]: Interval): Truth => {
  const pairs = [
    [start, first],
    [start, last],
    [end, first],
    [end, last],
  ] as const
  return and(
    [...RELATIONS[name]!].map((op, index) => {
      const [a, b] = pairs[index]!
      return op === ' ' || (a === null || b === null ? null : holds(op, orderOfTimes(a, b)))
    }),
  )
}

function makeTemporal(): Made<boolean> {
  const name = pick([...Object.keys(RELATIONS), 'T_DISJOINT', 'T_INTERSECTS'])
  const isForInstants = /T_(AFTER|BEFORE|DISJOINT|EQUALS|INTERSECTS)$/.test(name)
  const [left, right] = [0, 1].map(() =>
    isForInstants && random() < 0.5 ? asInterval(instant()) : makeInterval(),
  ) as [Made<Interval>, Made<Interval>]
  return {
    text: `${name}(${left.text},${right.text})`,
    of(row) {
      const [a, b] = [left.of(row)!, right.of(row)!]
      if (name in RELATIONS) return isRelated(name, a, b)
      const isApart = or([isRelated('T_BEFORE', a, b), isRelated('T_AFTER', a, b)])
      return name === 'T_DISJOINT' || isApart === null ? isApart : !isApart
    },
  }
}

function makeLists(): Made<boolean> {
  const [name, from] =
    random() < 0.5
      ? (['tags', ['a', 'b', 'c', 'd']] as const)
      : (['counts', [1, 2, 3, 4, 99_999_999_999, 1.5]] as const)
  const items = list<string | number>(from)
  const text = `(${items.map((item) => (typeof item === 'string' ? quote(item) : item)).join(',')})`
  const op = pick(['A_EQUALS', 'A_CONTAINS', 'A_CONTAINEDBY', 'A_OVERLAPS'])
  const isFirst = random() < 0.5
  const has = (a: readonly unknown[], b: readonly unknown[]) => b.every((item) => a.includes(item))
  return combined(
    [column(name)],
    isFirst ? `${op}(${name},${text})` : `${op}(${text},${name})`,
    (value: unknown[]) => {
      const [a, b] = isFirst ? [value, items] : [items, value]
      if (op === 'A_EQUALS') return has(a, b) && has(b, a)
      if (op === 'A_CONTAINS') return has(a, b)
      if (op === 'A_CONTAINEDBY') return has(b, a)
      return a.some((item) => (b as readonly unknown[]).includes(item))
    },
  )
}

function makeSpatial(): Made<boolean> {
  const [x, y] = [upTo(20) - 10, upTo(20) - 10]
  const [west, south, east, north] = [x, y, x + upTo(10), y + upTo(10)]
  const isIn = ([a, b]: number[]) => a! >= west && a! <= east && b! >= south && b! <= north
  const box = `BBOX(${west},${south},${east},${north})`
  const geometry = column('geom')
  return pick([
    () => combined([geometry], `S_INTERSECTS(geom,${box})`, isIn),
    () => combined([geometry], `S_INTERSECTS(${box},geom)`, isIn),
    () => combined([geometry], `S_DISJOINT(geom,${box})`, (point) => !isIn(point)),
    () =>
      combined(
        [geometry],
        `S_EQUALS(geom,POINT(${west} ${south}))`,
        ([a, b]: number[]) => a === west && b === south,
      ),
  ])()
}

const folded = (text: string) => text.normalize('NFD').replace(/\p{Mn}/gu, '')
function makePattern(): Made<boolean> {
  const pattern = pick(['%', 'a%', '%b%', '_bc', 'Be__', 'x\\_y', '%\\%', 'z\\\\b', ''])
  const like = new RegExp(
    `^${[...pattern.matchAll(/\\(.)|%|_|./g)].map(([one, escaped]) => (escaped ? escaped.replace(/\W/g, '\\$&') : one === '%' ? '[^]*' : one === '_' ? '[^]' : one.replace(/\W/g, '\\$&'))).join('')}$`,
  )
  const text = column(pick(['name', 'other']))
  const not = random() < 0.3
  return combined(
    [text],
    `${text.text} ${not ? 'NOT ' : ''}LIKE ${quote(pattern)}`,
    (value: string) => like.test(value) !== not,
  )
}

function makeIn(): Made<boolean> {
  const [name, from, write] = pick<readonly [string, readonly any[], (item: any) => string]>([
    ['whole', LITERALS, String],
    ['float', LITERALS, String],
    ['exact', LITERALS, String],
    ['name', WORDS, quote],
    ['mood', MOODS, quote],
    ['code', CODES, quote],
    ['day', DAYS, (day) => `DATE('${day}')`],
    ['seen', TIMES, (time) => `TIMESTAMP('${time}')`],
    ['noted', TIMES, (time) => `TIMESTAMP('${time}')`],
    ['flag', [true, false], String],
  ])
  const items = [pick(from), ...list(from)]
  const not = random() < 0.3
  const left = column(name)
  const same = /seen|noted/.test(name)
    ? (a: string, b: string) => microseconds(a) === microseconds(b)
    : Object.is
  return combined(
    [left],
    `${left.text} ${not ? 'NOT ' : ''}IN (${items.map(write).join(',')})`,
    (value) => items.some((item) => same(item, value)) !== not,
  )
}

function makeSimple(): Made<boolean> {
  return pick<() => Made<boolean>>([
    () => compared(makeNumber(2), pick(OPS), makeNumber(1), orderOfNumbers),
    () => compared(numberColumn(), pick(OPS), numberLiteral(), orderOfNumbers),
    () => compared(numberLiteral(), pick(OPS), numberColumn(), orderOfNumbers),
    () => compared(textValue(), pick(OPS), textValue(), orderOf),
    () =>
      compared(column('code'), pick(['=', '<>']), value(quote(CODES[0]!.toUpperCase()), CODES[0]!), orderOf),
    () => compared(column('mood'), pick(['=', '<>']), value("'bad'", 'bad'), orderOf),
    () => compared(column('flag'), pick(['=', '<>']), value('true', true), orderOf),
    () => compared(instant(), pick(OPS), instant(), orderOfTimes),
    () => combined([column('flag')], 'flag', (flag: boolean) => flag),
    () =>
      combined(
        [column('name'), column('other')],
        'CASEI(name) = CASEI(other)',
        (a: string, b: string) => a.toUpperCase() === b.toUpperCase(),
      ),
    () =>
      combined(
        [column('name'), column('other')],
        'ACCENTI(name) = ACCENTI(other)',
        (a: string, b: string) => folded(a) === folded(b),
      ),
    () =>
      combined([column('name')], "CASEI(ACCENTI(name)) LIKE CASEI(ACCENTI('züR%'))", (a: string) =>
        /^zur/i.test(folded(a)),
      ),
    () => combined([column('name')], `lower(name) = 'bern'`, (a: string) => a.toLowerCase() === 'bern'),
    () => combined([column('name')], 'length(name) > 2', (a: string) => a.length > 2),
    () => combined([column('whole')], 'abs(whole) = 2', (a: number) => Math.abs(a) === 2),
    () => {
      const [middle, low, high] = [makeNumber(1), makeNumber(1), makeNumber(0)]
      // Either side alone decides that it is false.
      return {
        text: `${middle.text} BETWEEN ${low.text} AND ${high.text}`,
        of: (row) =>
          and([
            compared(middle, '>=', low, orderOfNumbers).of(row),
            compared(middle, '<=', high, orderOfNumbers).of(row),
          ]),
      }
    },
    makePattern,
    makeIn,
    makeTemporal,
    makeLists,
    makeSpatial,
    () => {
      const part: Made<unknown> = pick([
        numberColumn,
        textValue,
        instant,
        () => makeNumber(2),
        () => column('tags'),
        () => column('geom'),
      ])()
      const not = random() < 0.5
      return {
        text: `${part.text} IS ${not ? 'NOT ' : ''}NULL`,
        of: (row) => (part.of(row) === null) !== not,
      }
    },
  ])()
}

const and = (all: readonly Truth[]): Truth => (all.includes(false) ? false : all.includes(null) ? null : true)
const or = (all: readonly Truth[]): Truth => (all.includes(true) ? true : all.includes(null) ? null : false)

function makeCondition(depth: number): Made<boolean> {
  if (depth === 0 || random() < 0.3) return makeSimple()
  const parts = Array.from({ length: 2 + upTo(2) }, () => makeCondition(depth - 1))
  const texts = parts.map(({ text }) => `(${text})`)
  return pick<() => Made<boolean>>([
    () => ({ text: texts.join(' AND '), of: (row) => and(parts.map((part) => part.of(row))) }),
    () => ({ text: texts.join(' OR '), of: (row) => or(parts.map((part) => part.of(row))) }),
    () => ({
      text: `NOT ${texts[0]}`,
      of: (row) => ((truth) => (truth === null ? null : !truth))(parts[0]!.of(row)),
    }),
  ])()
}

async function idsOf(parameters: Record<string, string>): Promise<unknown> {
  const search = new URLSearchParams({ limit: '200', properties: '', skipGeometry: 'true', ...parameters })
  const { status, json } = await client(`/collections/filtered/items?${search}`)
  return status === 200 ? json.features.map(({ id }: { id: number }) => id) : json.detail
}

const RUNS = Number(process.env.FILTER_RUNS ?? 400)

test('random filters find what an evaluator finds, as text and as JSON', async () => {
  let found = 0
  for (let run = 0; run < RUNS; run++) {
    const { text, of } = run < RUNS / 2 ? makeSimple() : makeCondition(2)
    const expected = rows.filter((row) => of(row) === true).map(({ id }) => id)
    found += expected.length
    assert.deepEqual(await idsOf({ filter: text }), expected, text)
    if (run % 5 > 0) continue
    const json = { filter: printJson(parseText(text).expression), 'filter-lang': 'cql2-json' }
    assert.deepEqual(await idsOf(json), expected, json.filter)
  }
  // Most conditions are true for some rows.
  assert.ok(found > RUNS * 10, `only ${found}`)
})
