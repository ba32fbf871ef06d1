// Owns the line that filters features: what it offers while a person types, as a combobox with a list (ARIA 1.2).

import { withToken } from './consistency.js'
import { parseJson } from './json.js'

const form = document.getElementById('filter-line')
const input = document.getElementById('filter')
const { identifier, words, operators } = JSON.parse(form.dataset.language)
/** Values are requested when nothing was typed for this long. */
const SETTLE_MS = 250
/** Features whose values are offered. */
const MAX_FEATURES = 100
/** Finding values may read the table, and is given up after this time. */
const WAIT_S = 2
const MAX_OPTIONS = 50

const { position } = input.dataset
if (position) input.setSelectionRange(position, position)

// The map may have moved since the page was loaded, and show another time.
form.addEventListener('formdata', ({ formData }) => {
  const { searchParams } = new URL(location)
  for (const name of ['bbox', 'datetime'])
    if (searchParams.has(name)) formData.set(name, searchParams.get(name))
    else formData.delete(name)
})

/* What stands before the caret. */

const TOKEN = new RegExp(
  String.raw`'(?:[^'\\]|''|\\(?:.|$))*'?|"(?:[^"]|"")*"?|${identifier}|[\d.]+(?:e[-+]?\d+)?|<>|[<>]=|\S`,
  'gisu',
)
const CLOSED = /^(?:'(?:[^'\\]|''|\\.)*'|"(?:[^"]|"")*")$/s
const IS_WORD = /^['"\d.]|^[^\p{P}\p{S}]|^[:_]/u
const PLAIN = new RegExp(`^${identifier}$`, 'u')

/** Kinds of tokens, each as a letter, so that patterns can find what is to follow; p is a property and m arithmetic. */
const KINDS = new Map([
  ...'( ) ,'.split(' ').map((symbol) => [symbol, symbol]),
  ...'= <> < > <= >='.split(' ').map((symbol) => [symbol, 'c']),
  ...Object.entries({ and: 'a', or: 'a', not: 'n', like: 'l', in: 'i', between: 'b', is: 's', div: 'm' }),
  ...'null true false'.split(' ').map((word) => [word, 'v']),
])
const kindOf = (text) =>
  KINDS.get(text.toLowerCase()) ?? (/^['\d.]/.test(text) ? 'v' : IS_WORD.test(text) ? 'p' : 'm')

/** An operand that is complete, and the words after it that begin an operator. */
const COMPLETE = /([pv)])([ns]*)$/
/** A property that the next operand is compared with. */
const COMPARED = /p(?:c|n?l|n?i\((?:[pv],)*|n?b(?:[pv]a)?)$/
const IN_CALL = /(?:f\(|,)$/

/** Returns the tokens before the caret, their kinds, and the one that is being typed, with where it begins and ends. */
function readLine() {
  const caret = input.selectionStart
  const [before, after] = [input.value.slice(0, caret), input.value.slice(caret)]
  const tokens = [...before.matchAll(TOKEN)].map(({ 0: text, index }) => ({ text, from: index }))
  const { text: last = '', from = caret } = tokens.at(-1) ?? {}
  const isTyped = from + last.length === caret && IS_WORD.test(last) && !CLOSED.test(last)
  if (isTyped) tokens.pop()
  // A name that is followed by a bracket is a function, f.
  const kinds = tokens.map(({ text }) => kindOf(text)).join('')
  const rest = isTyped && !/^['"]/.test(last) ? /^[\p{L}\p{N}_.:]*/u.exec(after)[0].length : 0
  return {
    tokens,
    kinds: kinds.replaceAll('p(', 'f('),
    typed: isTyped ? last : '',
    from: isTyped ? from : caret,
    to: caret + rest,
  }
}

const unquote = (text) =>
  text.startsWith('"')
    ? text.replace(/^"|"$/g, '').replaceAll('""', '"')
    : text.replace(/^'/, '').replace(/''|\\'|\\\\/g, ([, character]) => character)
const quote = (text) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
const nameOf = (name) =>
  PLAIN.test(name) && !words.includes(name.toLowerCase()) ? name : `"${name.replaceAll('"', '""')}"`

/* What can follow. An option is a text to insert, and perhaps a key to find it by and a note for people. */

const COMPARISONS = ['=', '<>', '<', '<=', '>', '>='].map((text) => ({ text: `${text} ` }))
const CHAIN = [{ text: 'AND ' }, { text: 'OR ' }]
const NULLS = [{ text: 'IS NULL ' }, { text: 'IS NOT NULL ' }]
const RANGES = ['IN (', 'BETWEEN ', 'NOT IN (', 'NOT BETWEEN '].map((text) => ({ text }))
const PATTERNS = [{ text: 'LIKE ' }, { text: 'NOT LIKE ' }]

function operatorsFor({ type, format } = {}) {
  if (type === 'boolean') return [...CHAIN, ...COMPARISONS.slice(0, 2), ...NULLS]
  if (type === 'string' && !format) return [...COMPARISONS, ...PATTERNS, ...RANGES, ...NULLS]
  return ['string', 'integer', 'number'].includes(type) ? [...COMPARISONS, ...RANGES, ...NULLS] : NULLS
}

/** @param before kinds of the tokens before the operand */
function operatorsAfter(operand, before, property) {
  if (operand === ')') return [...CHAIN, ...COMPARISONS]
  if (operand === 'v' || /[clm]$/.test(before)) return CHAIN
  return IN_CALL.test(before) ? [] : operatorsFor(property)
}

let loading
/** Loads the properties and the functions, once. */
function load() {
  const read = async (url) => (await fetch(`${url}?f=json`)).json()
  loading ??= Promise.all([read(form.dataset.queryables), read(form.dataset.functions)])
    .then(([{ properties }, { functions }]) => ({
      properties: new Map(Object.entries(properties)),
      calls: [
        ...functions.map(({ name, description }) => ({ text: `${name}(`, note: description })),
        ...operators.map((name) => ({ text: `${name}(` })),
      ],
    }))
    .catch((error) => {
      loading = undefined
      throw error
    })
  return loading
}

const propertyOption =
  (tail) =>
  ([name, { type, title, description }]) => ({
    text: nameOf(name) + tail,
    key: name,
    note: title ?? description ?? [type ?? 'geometry'].flat().join(', '),
  })

/** Returns what can follow the tokens, and the property that a value of is next. */
function complete({ tokens, kinds, typed, from }, { properties, calls }) {
  const [ending, operand, begun] = COMPLETE.exec(kinds) ?? []
  if (ending) {
    const before = kinds.slice(0, -ending.length)
    const start = begun ? tokens.at(-begun.length).from : from
    return {
      from: start,
      typed: input.value.slice(start, input.selectionStart).replace(/\s+/g, ' '),
      options: operatorsAfter(operand, before, properties.get(unquote(tokens.at(-ending.length).text))),
    }
  }
  const compared = COMPARED.exec(kinds)
  const name = compared && unquote(tokens[compared.index].text)
  const tail = /f\([^)]*$/.test(kinds) || compared ? '' : ' '
  const names = [...properties].map(propertyOption(tail))
  const others = compared ? calls : [...calls, { text: 'NOT ' }]
  return {
    from,
    typed,
    options: typed.startsWith("'") ? [] : typed.startsWith('"') ? names : [...names, ...others],
    compared: properties.has(name) ? { name, ...properties.get(name) } : undefined,
  }
}

const TIME = /^\d{4}-\d\d-\d\d(?:T[\d:.]+)?(?=(?:\+00:00)?$)/

/** Returns a value as a literal; undefined if it has none. */
function literalOf({ type, format }, value) {
  if (value === null || value === undefined || typeof value === 'object') return undefined
  if (type !== 'string') return String(value).toUpperCase()
  if (format !== 'date' && format !== 'date-time') return quote(value)
  const [time] = TIME.exec(value) ?? []
  return time && (format === 'date' ? `DATE('${time}')` : `TIMESTAMP('${time}Z')`)
}

/** Returns values of a property: all that its schema allows, or some that features have. */
async function valuesOf({ name, type, format, enum: allowed, 'x-ogc-role': role }, typed, signal) {
  if (allowed) return allowed
  if (type === 'boolean') return [true, false]
  if (!['string', 'integer', 'number'].includes(type)) return []
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
  signal.throwIfAborted()
  const begun = unquote(typed)
  // Names of things begin with a capital letter, which few people type.
  const patterns = new Set([begun, begun.charAt(0).toUpperCase() + begun.slice(1)])
  const likes = [...patterns].map(
    (pattern) => `${nameOf(name)} LIKE ${quote(pattern.replace(/[\\%_]/g, '\\$&') + '%')}`,
  )
  const isId = role === 'id'
  const address = new URL(form.dataset.items, location)
  address.search = new URLSearchParams({
    f: 'json',
    limit: MAX_FEATURES,
    skipGeometry: true,
    properties: isId ? '' : name,
    filter: type === 'string' && !format && begun ? likes.join(' OR ') : `${nameOf(name)} IS NOT NULL`,
  })
  const response = await fetch(address, { signal, headers: withToken({ prefer: `wait=${WAIT_S}` }) })
  if (!response.ok) return []
  const { features } = parseJson(await response.text())
  return features.map(({ id, properties }) => (isId ? id : properties[name]))
}

/** Returns the options that begin with what was typed, and after these the ones that contain it. */
function matching(options, typed) {
  const [whole, bare] = [typed, unquote(typed)].map((text) => text.toLowerCase())
  const ranked = options.map((option) => {
    const [text, key] = [option.text, option.key ?? option.text].map((one) => one.toLowerCase())
    if (text.trimEnd() === whole) return { option, rank: 2 }
    return { option, rank: text.startsWith(whole) || key.startsWith(bare) ? 0 : key.includes(bare) ? 1 : 2 }
  })
  return [0, 1].flatMap((wanted) => ranked.filter(({ rank }) => rank === wanted).map(({ option }) => option))
}

/* The list. */

const list = document.createElement('ul')
list.id = 'filter-options'
list.hidden = true
list.setAttribute('role', 'listbox')
list.setAttribute('aria-label', 'Completions')
input.after(list)
for (const [name, value] of Object.entries({
  role: 'combobox',
  'aria-autocomplete': 'list',
  'aria-controls': list.id,
  'aria-expanded': 'false',
}))
  input.setAttribute(name, value)

/** The options that are listed, and the part of the line that one would replace. */
let shown = { options: [], from: 0, to: 0 }
let active = -1

function show(options, from, to) {
  const isOpen = options.length > 0 && document.activeElement === input
  shown = { options: options.slice(0, MAX_OPTIONS), from, to }
  list.replaceChildren(
    ...shown.options.map(({ text, note }, index) => {
      const item = document.createElement('li')
      item.id = `filter-option-${index}`
      item.setAttribute('role', 'option')
      item.appendChild(document.createElement('code')).textContent = text.trimEnd()
      if (note) item.appendChild(document.createElement('small')).textContent = note
      return item
    }),
  )
  list.hidden = !isOpen
  list.scrollTop = 0
  input.setAttribute('aria-expanded', isOpen)
  activate(-1)
}
const close = () => show([], 0, 0)

function activate(index) {
  active = index
  for (const [at, item] of [...list.children].entries()) item.setAttribute('aria-selected', at === index)
  const item = list.children[index]
  if (item) input.setAttribute('aria-activedescendant', item.id)
  else input.removeAttribute('aria-activedescendant')
  item?.scrollIntoView({ block: 'nearest' })
}

let asking = new AbortController()
/** Values of the property that was compared last: they are offered until those that match better are here. */
let found = { name: undefined, values: [] }

async function suggest() {
  asking.abort()
  asking = new AbortController()
  const { signal } = asking
  try {
    const known = await load()
    if (signal.aborted) return
    const line = readLine()
    const { from, typed, options, compared } = complete(line, known)
    if (compared?.name !== found.name) found = { name: compared?.name, values: [] }
    const offer = () => show(matching([...found.values, ...options], typed), from, line.to)
    offer()
    if (!compared) return
    const values = new Set(
      (await valuesOf(compared, typed, signal)).map((value) => literalOf(compared, value)),
    )
    values.delete(undefined)
    if (signal.aborted) return
    const sorted = [...values].sort((one, other) => one.localeCompare(other, undefined, { numeric: true }))
    found.values = sorted.map((text) => ({ text, key: unquote(text.replace(/'$/, '')) }))
    offer()
  } catch {
    // Everything can be typed in full as well.
  }
}

function choose({ text }) {
  const { from, to } = shown
  const needsSpace = from > 0 && !/[\s(,]$/.test(input.value.slice(0, from))
  input.setRangeText(`${needsSpace ? ' ' : ''}${text}`, from, to, 'end')
  suggest()
}

input.addEventListener('input', suggest)
input.addEventListener('click', suggest)
input.addEventListener('blur', () => {
  asking.abort()
  close()
})
input.addEventListener('keydown', (event) => {
  const { key, isComposing } = event
  if (isComposing) return
  const count = shown.options.length
  // One step before the first option and after the last one, none is chosen.
  const step = { ArrowDown: 1, ArrowUp: -1 }[key]
  if (step && count === 0) suggest()
  else if (step) activate(((active + 1 + step + count + 1) % (count + 1)) - 1)
  else if (key === 'Enter' && active >= 0) choose(shown.options[active])
  else if (key === 'Escape' && count > 0) close()
  else {
    if (/^(Arrow|Home|End)/.test(key)) close()
    return
  }
  event.preventDefault()
})
// The line keeps the focus.
list.addEventListener('mousedown', (event) => event.preventDefault())
list.addEventListener('click', ({ target }) => {
  const item = target.closest('[role=option]')
  if (item) choose(shown.options[[...list.children].indexOf(item)])
})
