// Owns the parameters filter, filter-lang and filter-crs: what they mean for a collection.

import { gatewayError } from '../../errors.ts'
import type { Collection } from '../collections/collection.ts'
import type { Condition } from '../values/condition.ts'
import { CRS84, CRS84H, systemOf, WGS84 } from '../values/coordinate-system.ts'
import { checkFilter } from './check.ts'
import { compileFilter } from './compile.ts'
import { parseJson } from './cql2-json.ts'
import { parseText } from './cql2-text.ts'
import { OWN_FUNCTIONS } from './functions.ts'
import { printText } from './print.ts'
import { queryablesOf } from './queryables.ts'

export const FILTER_LANGUAGES = ['cql2-text', 'cql2-json'] as const
export type FilterLanguage = (typeof FILTER_LANGUAGES)[number]

/** Name of CQL2 text in drafts of the standard. GDAL still sends it, and escapes nothing but quotes. */
export const DRAFT_LANGUAGE = 'cql-text'

/** Returns a filter in the draft's language in CQL2 text: a backslash stands for itself there. */
export const fromDraft = (filter: string) => filter.replaceAll('\\', '\\\\')

export type FilterParameters = {
  readonly filter?: string
  readonly 'filter-lang'?: FilterLanguage
  readonly 'filter-crs'?: string
}

/** Coordinate systems of geometries in filters. */
const SYSTEMS = { systems: [CRS84, CRS84H, WGS84], defaultSystem: CRS84 }

/** Returns the condition of a request's filter; undefined if it has none. @throws GatewayError */
export function filterCondition(
  parameters: FilterParameters,
  collection: Collection,
  functions = OWN_FUNCTIONS,
): Condition | undefined {
  const { filter, 'filter-lang': language = 'cql2-text', 'filter-crs': crs } = parameters
  const { isNorthFirst: isLatitudeFirst } = systemOf('filter-crs', crs, SYSTEMS)
  if (filter === undefined) return undefined
  if (filter.trim() === '')
    throw gatewayError('parameter-invalid', "filter must not be empty, for example filter=name='Bern'.", {
      parameter: 'filter',
    })
  const queryables = queryablesOf(collection)
  const checked = checkFilter(parse(filter, language), queryables, { isLatitudeFirst, functions })
  return compileFilter(checked, queryables)
}

const parse = (filter: string, language: FilterLanguage) =>
  language === 'cql2-json' ? parseJson(filter) : parseText(filter)

/** Returns a valid filter as a single line of CQL2 text; as it was sent if it is one, empty if there is none. */
export const filterAsLine = ({ filter = '', 'filter-lang': language = 'cql2-text' }: FilterParameters) =>
  language === 'cql2-json' || /[\r\n]/.test(filter) ? printText(parse(filter, language).expression) : filter
