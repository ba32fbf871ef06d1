// Owns the limits that check constraints set to the values of one column, as far as a schema can say them.

/** Limits of a column's values; a member is left out if there is no such limit. */
export type Limits = {
  readonly minimum?: number
  readonly exclusiveMinimum?: number
  readonly maximum?: number
  readonly exclusiveMaximum?: number
  /** Least number of characters. */
  readonly minLength?: number
  /** Greatest number of characters. */
  readonly maxLength?: number
  /** All values that are allowed. */
  readonly values?: readonly (string | number)[]
}

/** The column, or VALUE in a domain, with casts that keep the value: `x`, `(x)::text`, `"a b"`. */
const SUBJECT = String.raw`\(*(?:"(?:[^"]|"")+"|[a-z_A-Z][\w$]*)\)*(?:::(?:text|character varying|numeric|double precision)\)*)*`
/** A literal, perhaps with casts: `5`, `('-5'::integer)::numeric`, `'a''b'::text`. The text is a group. */
const LITERAL = String.raw`\(*(-?[\d.]+|'(?:[^']|'')*')\)*(?:::[\w ]+\)*)*`

const COMPARISON = new RegExp(`^${SUBJECT} (>=|<=|>|<) ${LITERAL}$`)
const TURNED = new RegExp(`^${LITERAL} (>=|<=|>|<) ${SUBJECT}$`)
const TURNED_OPERATORS: Readonly<Record<string, string>> = { '>=': '<=', '<=': '>=', '>': '<', '<': '>' }
const MEMBERSHIP = new RegExp(String.raw`^${SUBJECT} = ANY \(+ARRAY\[(.*?)\]\)*(?:::[\w ]+\[\]\)*)*$`, 's')
const LENGTH = new RegExp(String.raw`^(?:char_length|length)\(${SUBJECT}\) (>=|<=|>|<|=) (\d+)$`)
const MEMBER = new RegExp(`${LITERAL}(?:, |$)`, 'gy')

/**
 * Returns the limits that constraints set together. Parts of a constraint that are of another form are left out: they
 * hold all the same, and a schema may say less than the database checks.
 * @param constraints each as pg_get_constraintdef returns it, about one column alone
 */
export function limitsOf(constraints: readonly string[]): Limits {
  const parts = constraints.flatMap((text) => splitConjunction(text.replace(/^CHECK /, '')))
  return parts.map(limitOf).reduce(narrow, {})
}

function limitOf(part: string): Limits {
  const length = LENGTH.exec(part)
  if (length) return lengthLimit(length[1]!, Number(length[2]))
  const comparison = COMPARISON.exec(part)
  if (comparison) return comparisonLimit(comparison[1]!, textOfLiteral(comparison[2]!))
  const turned = TURNED.exec(part)
  if (turned) return comparisonLimit(TURNED_OPERATORS[turned[2]!]!, textOfLiteral(turned[1]!))
  const membership = MEMBERSHIP.exec(part)
  return membership ? membershipLimit(membership[1]!) : {}
}

function comparisonLimit(operator: string, value: string): Limits {
  const number = Number(value)
  if (value.trim() === '' || !Number.isFinite(number)) return {}
  const names = {
    '>=': 'minimum',
    '>': 'exclusiveMinimum',
    '<=': 'maximum',
    '<': 'exclusiveMaximum',
  } as const
  return { [names[operator as keyof typeof names]]: number }
}

function lengthLimit(operator: string, length: number): Limits {
  switch (operator) {
    case '=':
      return { minLength: length, maxLength: length }
    case '>=':
      return { minLength: length }
    case '>':
      return { minLength: length + 1 }
    case '<=':
      return { maxLength: length }
    default:
      return { maxLength: length - 1 }
  }
}

function membershipLimit(list: string): Limits {
  const values: (string | number)[] = []
  let end = 0
  for (const match of list.matchAll(MEMBER)) {
    end = match.index + match[0].length
    values.push(match[1]!.startsWith("'") ? textOfLiteral(match[1]!) : Number(match[1]))
  }
  // A list with anything but literals says nothing here.
  return end === list.length && values.length > 0 ? { values } : {}
}

const textOfLiteral = (literal: string) =>
  literal.startsWith("'") ? literal.slice(1, -1).replaceAll("''", "'") : literal

/** Returns what holds if both do. */
function narrow(one: Limits, other: Limits): Limits {
  const both = { ...one, ...other }
  const most = (name: 'minimum' | 'exclusiveMinimum' | 'minLength') =>
    one[name] !== undefined && other[name] !== undefined ? { [name]: Math.max(one[name], other[name]) } : {}
  const least = (name: 'maximum' | 'exclusiveMaximum' | 'maxLength') =>
    one[name] !== undefined && other[name] !== undefined ? { [name]: Math.min(one[name], other[name]) } : {}
  const values = one.values && other.values && one.values.filter((value) => other.values!.includes(value))
  return {
    ...both,
    ...most('minimum'),
    ...most('exclusiveMinimum'),
    ...most('minLength'),
    ...least('maximum'),
    ...least('exclusiveMaximum'),
    ...least('maxLength'),
    ...(values ? { values } : {}),
  }
}

/** Splits an expression at each AND of its outermost level; one with an OR there is one part. */
function splitConjunction(text: string): string[] {
  const inner = unwrap(text)
  const parts: string[] = []
  let depth = 0
  let start = 0
  for (let at = 0; at < inner.length; at++) {
    const character = inner[at]
    if (character === "'" || character === '"') at = inner.indexOf(character, at + 1)
    else if (character === '(' || character === '[') depth++
    else if (character === ')' || character === ']') depth--
    else if (depth === 0 && inner.startsWith(' OR ', at)) return []
    else if (depth === 0 && inner.startsWith(' AND ', at)) {
      parts.push(inner.slice(start, at))
      start = at + ' AND '.length
    }
    if (at < 0) return []
  }
  parts.push(inner.slice(start))
  return parts.length === 1 ? parts : parts.flatMap(splitConjunction)
}

/** Removes the parentheses around an expression, as long as the first one closes at its end. */
function unwrap(text: string): string {
  if (!text.startsWith('(') || !text.endsWith(')')) return text
  let depth = 0
  for (let at = 0; at < text.length - 1; at++) {
    const character = text[at]
    if (character === "'" || character === '"') {
      at = text.indexOf(character, at + 1)
      if (at < 0) return text
    } else if (character === '(') depth++
    else if (character === ')' && --depth === 0) return text
  }
  return unwrap(text.slice(1, -1))
}
