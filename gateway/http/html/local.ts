// Owns the language of a page's numbers and times: the one that the reader's browser asks for.

import type { FastifyRequest } from 'fastify'
import { html } from 'ghtml'
import Negotiator from 'negotiator'
import type { ColumnKind } from '../../features/values/column.ts'
import { makeValueText } from './assets/local.js'

export interface Local {
  /** Tag of the language and its region, such as de-AT. */
  readonly language: string
  number(value: number): string
  /** Returns the value of a property as its scripts show it, too; of another kind than a number or time as it is. */
  value(value: unknown, kind?: ColumnKind): string
  /** Returns an amount of bytes with three digits and a unit. */
  bytes(value: number): string
  /** Returns the element of a time, in UTC like those of the log. */
  time(value: Date): string
}

const DEFAULT_LANGUAGE = 'en'
/** Languages of a header that are tried: browsers send those that their user can read, the best one first. */
const TRIED = 5
/** Languages whose formats are kept; making them takes longer than a page. */
const KEPT = 50
const kept = new Map<string, Local>()

/** Returns how a request's reader writes numbers and times. A page that uses it varies by Accept-Language, see sendPage. */
export function localOf({ headers }: FastifyRequest): Local {
  const language = headers['accept-language']
    ? preferredLanguage(headers['accept-language'])
    : DEFAULT_LANGUAGE
  let local = kept.get(language)
  if (!local) {
    local = makeLocal(language)
    if (kept.size >= KEPT) kept.clear()
    kept.set(language, local)
  }
  return local
}

/** Returns the first language that is known here, without extensions, which are no one's language. */
function preferredLanguage(accepted: string): string {
  const negotiator = new Negotiator({ headers: { 'accept-language': accepted } })
  for (const tag of negotiator.languages().slice(0, TRIED)) {
    try {
      const { language, script, region } = new Intl.Locale(tag)
      const bare = [language, script, region].filter(Boolean).join('-')
      if (Intl.NumberFormat.supportedLocalesOf(bare).length > 0) return bare
    } catch {
      // It is no tag of a language, such as *.
    }
  }
  return DEFAULT_LANGUAGE
}

const UNITS = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte']

function makeLocal(language: string): Local {
  const numbers = new Intl.NumberFormat(language)
  const amounts = UNITS.map(
    (unit) =>
      new Intl.NumberFormat(language, {
        style: 'unit',
        unit,
        unitDisplay: unit === 'byte' ? 'long' : 'short',
        maximumSignificantDigits: 3,
      }),
  )
  const times = new Intl.DateTimeFormat(language, {
    dateStyle: 'medium',
    timeStyle: 'long',
    timeZone: 'UTC',
  })
  return {
    language,
    number: (value) => numbers.format(value),
    value: makeValueText(language),
    bytes(value) {
      const size = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, value)) / 3))
      return amounts[size]!.format(value / 1000 ** size)
    },
    time: (value) =>
      html`<time datetime="${value.toISOString()}" lang="${language}">${times.format(value)}</time>`,
  }
}
