// Owns what is left of a GeoJSON geometry if some of its coordinates are NaN or infinite, which JSON cannot express.

type Position = readonly (number | null)[]
type Coordinates = Position | readonly Coordinates[]
type Geometry = {
  readonly type: string
  readonly coordinates?: Coordinates
  readonly geometries?: readonly Geometry[]
}

const NON_NUMBER = /(?<=[[,])-?(?:NaN|Infinity)(?=[\],])/g

/**
 * Returns the geometry without its heights if one of them is no number, and `null` if a longitude or latitude is none.
 * @param text as PostGIS writes it; returned unchanged if it is something else
 */
export function withoutNonNumbers(text: string): string {
  let geometry: Geometry
  try {
    geometry = JSON.parse(text.replace(NON_NUMBER, 'null')) as Geometry
  } catch {
    return text
  }
  const positions = positionsOf(geometry)
  const isMissing = (axis: number) => positions.some((position) => position[axis] === null)
  if (isMissing(0) || isMissing(1)) return 'null'
  return isMissing(2) ? JSON.stringify(withoutHeights(geometry)) : text
}

const isPosition = (coordinates: Coordinates): coordinates is Position => !Array.isArray(coordinates[0])

const positionsOf = ({ coordinates, geometries }: Geometry): Position[] =>
  geometries ? geometries.flatMap(positionsOf) : coordinates ? positionsIn(coordinates) : []

const positionsIn = (coordinates: Coordinates): Position[] =>
  isPosition(coordinates) ? [coordinates] : coordinates.flatMap(positionsIn)

const withoutHeights = ({ type, coordinates = [], geometries }: Geometry): Geometry =>
  geometries ? { type, geometries: geometries.map(withoutHeights) } : { type, coordinates: flat(coordinates) }

const flat = (coordinates: Coordinates): Coordinates =>
  isPosition(coordinates) ? coordinates.slice(0, 2) : coordinates.map(flat)
