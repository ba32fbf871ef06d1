// Owns TopoJSON: one object of a topology → features.

import type { FeatureCollection } from 'geojson'
import { ExactNumber, isObject, type JsonObject, parseExactJson } from '../../values/exact-json.ts'
import { describeForeignCrs, foreignCrsOf } from '../../values/geojson-crs.ts'
import { GEOMETRY_TYPES } from '../../values/geometry.ts'
import { checkFeature } from './geojson-feature.ts'
import { SourceError, type SourceFeature, type SourceFormat } from './source.ts'
import { readText, startOfText } from './source-text.ts'

export const topojson: SourceFormat = {
  name: 'topojson',
  extensions: ['.topojson'],
  recognises: (start) => /^\{\s*"type"\s*:\s*"Topology"/.test(startOfText(start)),
  read: async ({ bytes }, { object }) => ({ hasTypes: true, features: readFeatures(bytes, object) }),
}

/** Bytes of the largest topology: it is read into memory, because its features share its arcs. */
const MAX_BYTES = 256 * 1024 * 1024
/** Features per batch. */
const BATCH = 1000

async function* readFeatures(
  bytes: AsyncIterable<Buffer>,
  object: string | undefined,
): AsyncGenerator<SourceFeature[]> {
  const { feature: featureOf } = await import('topojson-client')
  const topology = parseTopology(await readText(bytes, MAX_BYTES))
  const chosen = chooseObject(topology.objects, object)
  const geometries = chosen.type === 'GeometryCollection' ? chosen.geometries : [chosen]
  if (!Array.isArray(geometries))
    throw new SourceError('The object of the topology has no array of geometries.')
  const readOne = (geometry: unknown, index: number): SourceFeature => {
    const line = index + 1
    const problem = findProblem(geometry, topology.arcs.length)
    if (problem !== undefined) return { line, problem }
    try {
      const single = { type: 'GeometryCollection', geometries: [withPlainCoordinates(geometry)] }
      const { features } = featureOf(
        topology as unknown as Topology,
        single as unknown as TopologyObject,
      ) as unknown as FeatureCollection
      return checkFeature(line, features[0])
    } catch (cause) {
      // The package reads coordinates of any nesting and fails where they are none.
      if (!(cause instanceof TypeError)) throw cause
      return { line, problem: 'has arcs or coordinates that are not nested as its type requires' }
    }
  }
  for (let start = 0; start < geometries.length; start += BATCH)
    yield geometries.slice(start, start + BATCH).map((geometry, index) => readOne(geometry, start + index))
}

type Topology = Parameters<typeof import('topojson-client').feature>[0]
type TopologyObject = Parameters<typeof import('topojson-client').feature>[1]
type ParsedTopology = JsonObject & { readonly arcs: readonly unknown[]; readonly objects: JsonObject }

/** @throws SourceError */
function parseTopology(text: string): ParsedTopology {
  let topology: unknown
  try {
    topology = parseExactJson(text, 'all')
  } catch (cause) {
    throw new SourceError(`This is not valid JSON: ${(cause as Error).message}.`, { cause })
  }
  if (!isObject(topology) || topology.type !== 'Topology')
    throw new SourceError('This is not a TopoJSON topology.')
  const { arcs = [], objects, transform, crs } = topology
  const foreignCrs = foreignCrsOf(crs)
  if (foreignCrs !== undefined) throw new SourceError(`The topology has ${describeForeignCrs(foreignCrs)}.`)
  if (!isObject(objects)) throw new SourceError('The topology has no objects.')
  if (!Array.isArray(arcs) || !arcs.every(Array.isArray))
    throw new SourceError('The topology has arcs that are not arrays of positions.')
  // Arcs and transformation are computed with; PostGIS has doubles, too.
  return { ...topology, arcs: plain(arcs) as unknown[], transform: plain(transform), objects }
}

/** @throws SourceError if the object is not there or is no geometry, or if none is named and there are several */
function chooseObject(objects: JsonObject, named: string | undefined): JsonObject {
  const names = Object.keys(objects)
  const name = named ?? (names.length === 1 ? names[0] : undefined)
  if (name === undefined || !names.includes(name))
    throw new SourceError(
      names.length === 0
        ? 'The topology has no object.'
        : `The topology holds ${names.join(', ')}; name one of them with --object.`,
    )
  const chosen = objects[name]
  if (!isObject(chosen) || !isType(chosen.type))
    throw new SourceError(
      `The object ${name} of the topology has the type ${JSON.stringify(isObject(chosen) ? chosen.type : chosen)}, which is none of ${GEOMETRY_TYPES.join(', ')}.`,
    )
  const foreignCrs = foreignCrsOf(chosen.crs)
  if (foreignCrs !== undefined)
    throw new SourceError(`The object ${name} of the topology has ${describeForeignCrs(foreignCrs)}.`)
  return chosen
}

const isType = (type: unknown) => GEOMETRY_TYPES.some((name) => name === type)

/** Returns why an object of a topology cannot become a geometry, completing "Line 5 …"; undefined if it can. */
function findProblem(geometry: unknown, arcCount: number): string | undefined {
  if (!isObject(geometry)) return 'is not an object of a topology'
  const { type, crs, arcs, geometries } = geometry
  const foreignCrs = foreignCrsOf(crs)
  if (foreignCrs !== undefined) return `has ${describeForeignCrs(foreignCrs)}`
  // A feature without a geometry has the type null.
  if (type === null) return undefined
  if (!isType(type))
    return `has the type ${JSON.stringify(type)}, which is none of ${GEOMETRY_TYPES.join(', ')}`
  if (type === 'GeometryCollection') {
    if (!Array.isArray(geometries)) return 'is a GeometryCollection without an array of geometries'
    for (const part of geometries) {
      const problem = findProblem(part, arcCount)
      if (problem !== undefined) return problem
    }
  }
  const missing = Array.isArray(arcs) ? arcs.flat(2).find((arc) => !isArc(arc, arcCount)) : undefined
  return missing === undefined
    ? undefined
    : `has the arc ${JSON.stringify(missing)}, but the topology has ${arcCount} arcs, numbered from 0`
}

/** A negative number is an arc that is followed backwards: -1 is the first one. */
const isArc = (arc: unknown, count: number) =>
  typeof arc === 'number' && Number.isInteger(arc) && arc < count && ~arc < count

/** Returns an object of a topology with plain numbers, except for its properties and its id. */
function withPlainCoordinates(geometry: unknown): unknown {
  if (!isObject(geometry)) return geometry
  const { coordinates, geometries } = geometry
  return {
    ...geometry,
    ...(coordinates === undefined ? {} : { coordinates: plain(coordinates) }),
    ...(Array.isArray(geometries) ? { geometries: geometries.map(withPlainCoordinates) } : {}),
  }
}

function plain(value: unknown): unknown {
  if (value instanceof ExactNumber) return Number(value.text)
  if (Array.isArray(value))
    return value.every((number) => typeof number === 'number') ? value : value.map(plain)
  if (!isObject(value)) return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, plain(member)]))
}
