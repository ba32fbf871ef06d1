// Owns the geometries in filters: their check when they are read.

import { GeometryError } from '../values/geometry.ts'
import type { BboxLiteral, Coordinates, GeometryCollection, Position, SimpleGeometry } from './expression.ts'

/** How many lists a position is in. */
const NESTING: Readonly<Record<SimpleGeometry['type'], number>> = {
  Point: 0,
  LineString: 1,
  MultiPoint: 1,
  Polygon: 2,
  MultiLineString: 2,
  MultiPolygon: 3,
}
/** Fewest positions of a line and of a ring. */
const MIN_LINE = 2
const MIN_RING = 4

/** @throws GeometryError if it is not valid. @param hasHeights true if every position must have a height */
export function makeGeometry(
  type: SimpleGeometry['type'],
  coordinates: unknown,
  hasHeights: boolean,
): SimpleGeometry {
  const positions = listPositions(coordinates, NESTING[type])
  checkDimension(positions, hasHeights)
  const least = type.endsWith('Polygon') ? MIN_RING : type.endsWith('LineString') ? MIN_LINE : 1
  for (const line of type === 'Point' || type === 'MultiPoint' ? [] : linesOf(coordinates, NESTING[type])) {
    if (line.length < least)
      throw new GeometryError(`has a line or ring of ${line.length} positions, fewer than ${least}`)
    const [first, last] = [line[0]!, line.at(-1)!]
    if (least === MIN_RING && first.some((number, index) => number !== last[index]))
      throw new GeometryError('has a ring that is not closed')
  }
  return { type, coordinates: coordinates as Coordinates }
}

/** @throws GeometryError if it has no parts, or some of them have heights */
export function makeCollection(
  geometries: readonly SimpleGeometry[],
  hasHeights: boolean,
): GeometryCollection {
  if (geometries.length === 0) throw new GeometryError('has no parts')
  checkDimension(geometries.flatMap(positionsOf), hasHeights)
  return { type: 'GeometryCollection', geometries }
}

/** @throws GeometryError */
export function makeBbox(bbox: readonly number[]): BboxLiteral {
  if (bbox.length !== 4 && bbox.length !== 6) throw new GeometryError('is a BBOX without four or six numbers')
  return { bbox }
}

function listPositions(value: unknown, nesting: number): Position[] {
  if (!Array.isArray(value))
    throw new GeometryError('has coordinates that are not nested as its type requires')
  if (nesting > 0) {
    if (value.length === 0) throw new GeometryError('has a part without positions')
    return value.flatMap((part) => listPositions(part, nesting - 1))
  }
  if (value.length < 2 || value.length > 3)
    throw new GeometryError(`has a position of ${value.length} numbers instead of 2 or 3`)
  if (value.some((number) => typeof number !== 'number' || !Number.isFinite(number)))
    throw new GeometryError('has a position that does not consist of numbers')
  return [value as number[]]
}

/** Returns the lists of positions; the nesting is known to be right. */
const linesOf = (value: unknown, nesting: number): Position[][] =>
  nesting === 1 ? [value as Position[]] : (value as unknown[]).flatMap((part) => linesOf(part, nesting - 1))

function checkDimension(positions: readonly Position[], hasHeights: boolean) {
  const dimension = hasHeights ? 3 : positions[0]!.length
  if (positions.some(({ length }) => length !== dimension))
    throw new GeometryError(
      hasHeights ? 'has positions without a height' : 'mixes positions with and without a height',
    )
}

const positionsOf = ({ type, coordinates }: SimpleGeometry): Position[] =>
  listPositions(coordinates, NESTING[type])
