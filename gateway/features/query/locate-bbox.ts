// Owns boxes in other coordinate systems than degrees: which box in degrees surrounds them.

import type { Database } from '../../database/contract.ts'
import { isGeometryFailure } from '../../database/outcome.ts'
import type { Statement } from '../../database/statement.ts'
import { gatewayError } from '../../errors.ts'
import { type Bbox, parseBbox, parseRectangles } from '../values/bbox.ts'
import { type Box, type Rectangle, textOfRectangle } from '../values/box.ts'
import type { SystemsOfCollection } from '../values/coordinate-system.ts'
import { type CoordinateSystem, DEGREES, systemOf } from '../values/coordinate-system.ts'

/** A box that the database must first convert to degrees. */
export type UnlocatedBbox = Bbox<Rectangle> & { readonly system: CoordinateSystem }

type BboxParameters = { readonly bbox?: readonly number[]; readonly 'bbox-crs'?: string }

/** Returns the box of a request: in degrees, or to be located; undefined if it has none. @throws GatewayError */
export function planBbox(
  { bbox, 'bbox-crs': uri }: BboxParameters,
  systems: SystemsOfCollection,
): Bbox | UnlocatedBbox | undefined {
  const system = systemOf('bbox-crs', uri, systems)
  if (!bbox) return undefined
  return system.srid === DEGREES ? parseBbox(bbox, system) : { ...parseRectangles(bbox, system), system }
}

export const isUnlocated = (bbox: Bbox | UnlocatedBbox | undefined): bbox is UnlocatedBbox =>
  bbox !== undefined && 'system' in bbox

/**
 * Returns the box with boxes in degrees around it, which decide the cells that are read. It takes a round trip: only PROJ
 * knows where other systems are.
 * @throws GatewayError naming bbox if it is not in the area of its system
 */
export async function locateBbox(
  { database, deadline }: { readonly database: Database; readonly deadline: AbortSignal },
  { boxes, heights, system }: UnlocatedBbox,
): Promise<Bbox> {
  const edges = boxes.map((box) => `SRID=${system.srid};LINESTRING(${edgeOf(box).map(textOf).join()})`)
  const rows = await database.read(compileEdges(edges), { signal: deadline }).catch((error) => {
    throw isGeometryFailure(error) ? outside(system) : error
  })
  const located = rows.map(([text], index): Box => {
    const around = surround(positionsIn(text!))
    if (!around) throw outside(system)
    return { ...around, given: { srid: system.srid, text: textOfRectangle(boxes[index]!, system.srid) } }
  })
  return { boxes: located, heights }
}

const outside = ({ uri, isNorthFirst }: CoordinateSystem) =>
  gatewayError(
    'parameter-invalid',
    `bbox lies outside of the area of ${uri}, whose ${isNorthFirst ? 'northing or latitude' : 'easting or longitude'} comes first.`,
    { parameter: 'bbox' },
  )

const compileEdges = (edges: readonly string[]): Statement => ({
  name: 'tessera_edges',
  text: `select ST_AsText(ST_Transform(text::geometry, ${DEGREES}))
    from unnest($1::text[]) with ordinality as given (text, position) order by position`,
  values: [edges],
})

type Position = readonly [number, number]

const textOf = ([x, y]: Position) => `${x} ${y}`

const positionsIn = (text: string): Position[] =>
  [...text.matchAll(/([^\s(),]+) ([^\s(),]+)/g)].map(([, x, y]) => [Number(x), Number(y)])

/** Positions on each side of a box: a straight side is a curve in another system. */
const STEPS = 32

/** Returns positions along the sides of a box, in order. */
export function edgeOf([west, south, east, north]: Rectangle): Position[] {
  const corners: Position[] = [
    [west, south],
    [east, south],
    [east, north],
    [west, north],
    [west, south],
  ]
  const sides = corners.slice(1).flatMap(([toX, toY], index) => {
    const [fromX, fromY] = corners[index]!
    return Array.from({ length: STEPS }, (_, step): Position => {
      const part = step / STEPS
      return [fromX + (toX - fromX) * part, fromY + (toY - fromY) * part]
    })
  })
  return [...sides, corners[0]!]
}

/** Share of a box by which its curved sides can leave the positions on them; those of 32 steps leave them by less. */
const MARGIN = 0.01
/** Edges are rounded to a tenth of a metre, so that every node has the same: pages go on from one to another. */
const ROUNDING = 1e6

/**
 * Returns a box around positions along a closed edge, in degrees; undefined if one of them is nowhere. An edge that
 * crosses the antimeridian surrounds all longitudes, and one that crosses it an odd number of times also surrounds a pole.
 */
export function surround(edge: readonly Position[]): Box | undefined {
  let [west, south, east, north] = [Infinity, Infinity, -Infinity, -Infinity]
  let crossings = 0
  for (const [index, [longitude, latitude]] of edge.entries()) {
    if (!Number.isFinite(longitude) || !Number.isFinite(latitude)) return undefined
    if (index > 0 && Math.abs(longitude - edge[index - 1]![0]) > 180) crossings++
    west = Math.min(west, longitude)
    south = Math.min(south, latitude)
    east = Math.max(east, longitude)
    north = Math.max(north, latitude)
  }
  const margin = Math.max(east - west, north - south) * MARGIN
  const down = (degrees: number) => Math.floor((degrees - margin) * ROUNDING) / ROUNDING
  const up = (degrees: number) => Math.ceil((degrees + margin) * ROUNDING) / ROUNDING
  const hasPole = crossings % 2 === 1
  const isNorthern = south + north > 0
  return {
    minLongitude: crossings > 0 ? -180 : Math.max(down(west), -180),
    minLatitude: hasPole && !isNorthern ? -90 : Math.max(down(south), -90),
    maxLongitude: crossings > 0 ? 180 : Math.min(up(east), 180),
    maxLatitude: hasPole && isNorthern ? 90 : Math.min(up(north), 90),
  }
}
