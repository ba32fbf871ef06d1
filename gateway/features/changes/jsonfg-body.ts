// Owns what bodies in JSON-FG (OGC 21-045r1) say otherwise than in GeoJSON: the place, its system, the time, and the type.

import { quoted } from '../../errors.ts'
import type { Collection } from '../collections/collection.ts'
import type { Column } from '../values/column.ts'
import { type CoordinateSystem, CRS84H, findSystem } from '../values/coordinate-system.ts'
import { isObject, type JsonObject } from '../values/exact-json.ts'

/** Members that features have only in JSON-FG. */
export const JSONFG_MEMBERS = new Set([
  'conformsTo',
  'coordRefSys',
  'featureSchema',
  'featureType',
  'measures',
  'place',
  'time',
])

/** The class that every document conforms to, in the standard and in its drafts. */
const CORE =
  /^(http:\/\/www\.opengis\.net\/spec\/json-fg-1\/[\d.]+\/conf\/core|\[ogc-json-fg-1-[\d.]+:core\])$/

export const isJsonFg = ({ conformsTo }: JsonObject) =>
  Array.isArray(conformsTo) && conformsTo.some((uri) => typeof uri === 'string' && CORE.test(uri))

type Report = (pointer: string, detail: string) => undefined

export type FeatureMembers = {
  /** The member that has the geometry, by which faults name it. */
  readonly member: 'geometry' | 'place'
  readonly geometry: unknown
  readonly system: CoordinateSystem
  readonly properties: unknown
}

/**
 * Returns the members of GeoJSON for a feature in JSON-FG.
 * @param named the system that Content-Crs names, if there is one
 */
export function readJsonFg(
  body: JsonObject,
  collection: Collection,
  named: CoordinateSystem | undefined,
  report: Report,
  refuse: Report,
): FeatureMembers {
  const { featureType, measures, place, geometry } = body
  if (featureType !== undefined && featureType !== collection.id)
    refuse('/featureType', `must be ${quoted(collection.id)}, as of all features of this collection`)
  if (isObject(measures) && measures.enabled === true)
    report('/measures', 'must not be enabled: this collection has no measures')
  const placeSystem = systemIn(body.coordRefSys, collection, report)
  const hasPlace = place !== undefined && place !== null
  const system = hasPlace ? placeSystem : collection.defaultSystem
  if (named && !isSame(named, system))
    report(
      hasPlace ? '/coordRefSys' : '/geometry',
      `is in ${system.uri}, but Content-Crs names ${named.uri}: leave the header out`,
    )
  return {
    member: hasPlace ? 'place' : 'geometry',
    // A patch that removes the place of a feature without another geometry removes its geometry.
    geometry: hasPlace ? place : geometry === undefined && place === null ? null : geometry,
    system,
    properties: withTime(body, collection, report, refuse),
  }
}

const isSame = (one: CoordinateSystem, other: CoordinateSystem) =>
  one.srid === other.srid && one.isNorthFirst === other.isNorthFirst

function systemIn(given: unknown, { systems, defaultSystem }: Collection, report: Report): CoordinateSystem {
  if (given === undefined || given === null) return defaultSystem
  const uri = isObject(given) && given.type === 'Reference' ? given.href : given
  const system = typeof uri === 'string' ? findSystem(uri, [...systems, CRS84H]) : undefined
  if (!system)
    report(
      '/coordRefSys',
      `must be one of the coordinate systems of this collection: ${systems.map((one) => one.uri).join(', ')}`,
    )
  return system ?? defaultSystem
}

/** Returns the properties with the time as values of its columns, unless they have these themselves. */
function withTime(
  { time, properties }: JsonObject,
  { id, temporal, temporalEnd }: Collection,
  report: Report,
  refuse: Report,
): unknown {
  if (time === undefined) return properties
  if (!temporal) {
    if (time !== null) refuse('/time', `must be left out or null: features of ${id} have no time`)
    return properties
  }
  if (properties !== undefined && properties !== null && !isObject(properties)) return properties
  const own = properties ?? {}
  const columns = [temporal, ...(temporalEnd ? [temporalEnd] : [])]
  const values = time === null ? columns.map(() => null) : valuesIn(time, temporal, columns.length, report)
  const given = columns.flatMap(({ name }, index): [string, string | null][] => {
    const value = values[index]
    if (value === undefined) return []
    if (!Object.hasOwn(own, name)) return [[name, value]]
    // Times that JSON-FG does not know, such as those before Christ, are null there.
    if (time !== null && !isSameTime(own[name], value))
      report('/time', `differs from the property ${name}: leave out one of them`)
    return []
  })
  return given.length > 0 ? { ...own, ...Object.fromEntries(given) } : properties
}

const EXAMPLES = { date: '2024-02-29', timestamp: '2024-02-29T12:00:00Z' }

/** Returns the values of the columns, null where a period is open. */
function valuesIn(
  time: unknown,
  { kind, name }: Column,
  count: number,
  report: Report,
): readonly (string | null)[] {
  const member = kind === 'date' ? 'date' : 'timestamp'
  const example = EXAMPLES[member]
  const { interval, [member]: instant } = isObject(time) ? time : {}
  if (count === 2 && Array.isArray(interval) && interval.length === 2 && interval.every(isText))
    return interval.map((side) => (side === '..' ? null : side))
  if (isText(instant)) return Array.from({ length: count }, () => instant)
  const expected = count === 2 ? { interval: [example, '..'] } : { [member]: example }
  report('/time', `must be like ${JSON.stringify(expected)}, because ${name} has a ${member}`)
  return []
}

const isText = (value: unknown): value is string => typeof value === 'string'

const isSameTime = (own: unknown, value: string | null) =>
  isText(own) && isText(value) ? Date.parse(own) === Date.parse(value) : own === value
