// Owns how a geometry becomes shapes that are drawn one by one, and shapes become a geometry: each ring is a shape of its own.

/** Kinds of shapes, and the type that each is drawn as. */
const TYPES = { point: 'Point', line: 'LineString', area: 'Polygon', hole: 'Polygon' }
const KINDS = { Point: 'point', LineString: 'line', Polygon: 'area' }

/** Returns the shapes of a geometry, as features with their kind; undefined if its type cannot be drawn. */
export function shapesOf(geometry) {
  if (geometry === null) return []
  const type = geometry.type.replace(/^Multi/, '')
  const kind = KINDS[type]
  if (kind === undefined) return undefined
  const parts = type === geometry.type ? [geometry.coordinates] : geometry.coordinates
  if (kind !== 'area') return parts.map((coordinates) => shapeOf(kind, coordinates))
  return parts.flatMap((rings) => rings.map((ring, index) => shapeOf(index === 0 ? 'area' : 'hole', [ring])))
}

const shapeOf = (kind, coordinates) => ({
  type: 'Feature',
  geometry: { type: TYPES[kind], coordinates },
  properties: { mode: kind },
})

/** Returns true for a shape that is complete, and no point that only helps to draw one. */
export const isShape = ({ geometry, properties: { mode, currentlyDrawing } }) =>
  TYPES[mode] === geometry.type && currentlyDrawing !== true

/**
 * Returns the geometry of shapes: null if there are none.
 * @param isMany true if it has several parts even if there is one
 */
export function geometryOf(shapes, isMany) {
  const found = ['point', 'line', 'area'].find((kind) =>
    shapes.some((shape) => shape.properties.mode === kind),
  )
  if (found === undefined) return null
  const parts = found === 'area' ? polygonsOf(shapes) : partsOf(shapes, found)
  const type = TYPES[found]
  return isMany || parts.length > 1
    ? { type: `Multi${type}`, coordinates: parts }
    : { type, coordinates: parts[0] }
}

const partsOf = (shapes, kind) =>
  shapes.filter(({ properties }) => properties.mode === kind).map(({ geometry }) => geometry.coordinates)

function polygonsOf(shapes) {
  const areas = shapes.filter(({ properties }) => properties.mode === 'area')
  const polygons = new Map(areas.map((area) => [area, [turned(area.geometry.coordinates[0], false)]]))
  for (const hole of shapes.filter(({ properties }) => properties.mode === 'hole'))
    polygons.get(areaAround(hole, areas) ?? areas[0]).push(turned(hole.geometry.coordinates[0], true))
  return [...polygons.values()]
}

/** Returns the smallest area in which a hole is; undefined if there is none. */
export function areaAround(hole, areas) {
  const [ring] = hole.geometry.coordinates
  // A hole may touch the edge of its area.
  const isAround = ({ geometry }) =>
    ring.filter((place) => isInside(place, geometry.coordinates[0])).length > ring.length / 2
  const sizeOf = ({ geometry }) => Math.abs(sizeOfRing(geometry.coordinates[0]))
  return areas.filter(isAround).toSorted((a, b) => sizeOf(a) - sizeOf(b))[0]
}

/** Returns true if a ring crosses the line from a place to the east an odd number of times. */
function isInside([x, y], ring) {
  let isIn = false
  for (let at = 1; at < ring.length; at++) {
    const [[x1, y1], [x2, y2]] = [ring[at - 1], ring[at]]
    if (y1 > y !== y2 > y && x < x1 + ((x2 - x1) * (y - y1)) / (y2 - y1)) isIn = !isIn
  }
  return isIn
}

/** Returns twice the size of a ring in square degrees; negative if it turns clockwise. */
const sizeOfRing = (ring) =>
  ring.reduce((sum, [x, y], at) => {
    const [nextX, nextY] = ring[(at + 1) % ring.length]
    return sum + x * nextY - nextX * y
  }, 0)

/** Returns a ring that turns as GeoJSON wants it: clockwise if it is a hole. */
const turned = (ring, isHole) => (sizeOfRing(ring) < 0 === isHole ? ring : ring.toReversed())
