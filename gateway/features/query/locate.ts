// Owns the places of a request in other coordinate systems than degrees, its box and the geometries of its filter: which
// boxes in degrees surround them.

import type { Database } from '../../database/contract.ts'
import { isGeometryFailure } from '../../database/outcome.ts'
import type { Statement } from '../../database/statement.ts'
import { gatewayError } from '../../errors.ts'
import type { Collection } from '../collections/collection.ts'
import { edgesInFilter, type FilterParameters } from '../filter/filter.ts'
import type { FilterFunctions } from '../filter/functions.ts'
import { type Bbox, parseBbox, parseRectangles } from '../values/bbox.ts'
import { type Box, textOfRectangle } from '../values/box.ts'
import { type CoordinateSystem, DEGREES, systemOf } from '../values/coordinate-system.ts'
import { edgeOf, type Position, positionsIn, surround, textOfEdge } from '../values/edge.ts'

type PlaceParameters = FilterParameters & { readonly bbox?: readonly number[]; readonly 'bbox-crs'?: string }

/** Places in degrees. */
export type Located = {
  readonly bbox: Bbox | undefined
  /** Boxes around each geometry of the filter, in its order; undefined if those are in degrees. */
  readonly filter: readonly (readonly Box[])[] | undefined
}

/** Places that the database must first convert to degrees. */
export type Unlocated = {
  /** Returns what the boxes around the edges, in order, mean for the query. */
  readonly complete: (boxes: readonly Box[]) => Located
  readonly edges: readonly Edge[]
}
type Edge = {
  readonly positions: readonly Position[]
  readonly parameter: 'bbox' | 'filter'
  readonly system: CoordinateSystem
}

/** Returns the places of a request, or what has to be located first. @throws GatewayError */
export function planPlaces(
  parameters: PlaceParameters,
  collection: Collection,
  functions: FilterFunctions,
): Located | Unlocated {
  const { bbox } = parameters
  const system = systemOf('bbox-crs', parameters['bbox-crs'], collection)
  const filter = edgesInFilter(parameters, collection, functions)
  const isForeign = bbox !== undefined && system.srid !== DEGREES
  const located = bbox && !isForeign ? parseBbox(bbox, system) : undefined
  if (!isForeign && !filter) return { bbox: located, filter: undefined }
  const given = isForeign ? parseRectangles(bbox, system) : undefined
  const rectangles = given?.boxes ?? []
  return {
    edges: [
      ...rectangles.map((box): Edge => ({ positions: edgeOf(box), parameter: 'bbox', system })),
      ...(filter?.edges
        .flat()
        .map((positions): Edge => ({ positions, parameter: 'filter', system: filter.system })) ?? []),
    ],
    complete(boxes) {
      const around = rectangles.map(
        (box, index): Box => ({
          ...boxes[index]!,
          given: { srid: system.srid, text: `SRID=${system.srid};${textOfRectangle(box)}` },
        }),
      )
      const rest = boxes.slice(rectangles.length)
      return {
        bbox: given ? { boxes: around, heights: given.heights } : located,
        filter: filter?.edges.map(({ length }) => rest.splice(0, length)),
      }
    },
  }
}

export const isUnlocated = (places: Located | Unlocated): places is Unlocated => 'edges' in places

/**
 * Returns the places in degrees, which decide the cells that are read. It takes a round trip: only PROJ knows where other
 * systems are.
 * @throws GatewayError naming the parameter if a place is not in the area of its system
 */
export async function locate(
  { database, deadline }: { readonly database: Database; readonly deadline: AbortSignal },
  { edges, complete }: Unlocated,
): Promise<Located> {
  if (edges.length === 0) return complete([])
  const rows = await database.read(compileEdges(edges), { signal: deadline }).catch((error) => {
    throw isGeometryFailure(error) ? outside(edges) : error
  })
  const boxes = rows.map(([text], index): Box => {
    const box = surround(positionsIn(text!))
    if (!box) throw outside([edges[index]!])
    return box
  })
  return complete(boxes)
}

/** @param edges at least one, any of which lies outside */
function outside(edges: readonly Edge[]) {
  const [{ parameter, system }] = edges as readonly [Edge]
  const { uri, isNorthFirst } = system
  const what = parameter === 'bbox' ? 'bbox' : 'filter has a geometry that'
  return gatewayError(
    'parameter-invalid',
    `${what} lies outside of the area of ${uri}, whose ${isNorthFirst ? 'northing or latitude' : 'easting or longitude'} comes first.`,
    { parameter },
  )
}

const compileEdges = (edges: readonly Edge[]): Statement => ({
  name: 'tessera_edges',
  text: `select ST_AsText(ST_Transform(text::geometry, ${DEGREES}))
    from unnest($1::text[]) with ordinality as given (text, position) order by position`,
  values: [edges.map(({ positions, system }) => textOfEdge(positions, system.srid))],
})
