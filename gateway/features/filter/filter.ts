// Owns the parameters filter, filter-lang and filter-crs: what they mean for a collection.

import { gatewayError } from '../../errors.ts'
import type { Collection } from '../collections/collection.ts'
import type { Box } from '../values/box.ts'
import type { Condition } from '../values/condition.ts'
import { type CoordinateSystem, CRS84H, DEGREES, systemOf } from '../values/coordinate-system.ts'
import type { Position } from '../values/edge.ts'
import { type CheckOptions, checkFilter } from './check.ts'
import { compileFilter } from './compile.ts'
import { parseJson } from './cql2-json.ts'
import { parseText } from './cql2-text.ts'
import { type FilterFunctions, OWN_FUNCTIONS } from './functions.ts'
import { printText } from './print.ts'
import { queryablesOf } from './queryables.ts'
import { edgesOfLiteral, makeShape } from './shape.ts'

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

/** Returns the system of the geometries in a filter. CRS84h says no more of them than CRS84. @throws GatewayError */
const systemOfFilter = ({ 'filter-crs': uri }: FilterParameters, { systems, defaultSystem }: Collection) =>
  systemOf('filter-crs', uri, { systems: [...new Set([...systems, CRS84H])], defaultSystem })

/**
 * Returns the edges of each geometry in a filter, in order, if they are in another system than degrees; otherwise
 * undefined. @throws GatewayError
 */
export function edgesInFilter(
  parameters: FilterParameters,
  collection: Collection,
  functions: FilterFunctions,
): { readonly system: CoordinateSystem; readonly edges: readonly Position[][][] } | undefined {
  const system = systemOfFilter(parameters, collection)
  if (system.srid === DEGREES || !parameters.filter?.trim()) return undefined
  const edges: Position[][][] = []
  check(parameters, collection, functions, (value) => {
    edges.push(edgesOfLiteral(value, system))
    return makeShape(value, system, [])
  })
  return { system, edges }
}

/**
 * Returns the condition of a request's filter; undefined if it has none.
 * @param located boxes in degrees around each geometry, if they are in another system
 * @throws GatewayError
 */
export function filterCondition(
  parameters: FilterParameters,
  collection: Collection,
  functions = OWN_FUNCTIONS,
  located?: readonly (readonly Box[])[],
): Condition | undefined {
  const { filter } = parameters
  const system = systemOfFilter(parameters, collection)
  if (filter === undefined) return undefined
  if (filter.trim() === '')
    throw gatewayError('parameter-invalid', "filter must not be empty, for example filter=name='Bern'.", {
      parameter: 'filter',
    })
  let shapes = 0
  const checked = check(parameters, collection, functions, (value) =>
    makeShape(value, system, located?.[shapes++]),
  )
  return compileFilter(checked, queryablesOf(collection))
}

const check = (
  { filter, 'filter-lang': language = 'cql2-text' }: FilterParameters,
  collection: Collection,
  functions: FilterFunctions,
  makeShapeOf: CheckOptions['makeShape'],
) => checkFilter(parse(filter!, language), queryablesOf(collection), { makeShape: makeShapeOf, functions })

const parse = (filter: string, language: FilterLanguage) =>
  language === 'cql2-json' ? parseJson(filter) : parseText(filter)

/** Returns a valid filter as a single line of CQL2 text; as it was sent if it is one, empty if there is none. */
export const filterAsLine = ({ filter = '', 'filter-lang': language = 'cql2-text' }: FilterParameters) =>
  language === 'cql2-json' || /[\r\n]/.test(filter) ? printText(parse(filter, language).expression) : filter
