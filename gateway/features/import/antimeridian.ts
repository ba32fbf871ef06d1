// Owns the cut of outlines along the antimeridian, as RFC 7946 (section 3.1.9) requires it.

type Position = readonly number[]
type Ring = readonly Position[]
type Polygon = readonly Ring[]

/**
 * Degrees of longitude. No outline is this wide: a ring that seems to be crosses the antimeridian, or goes around a
 * pole.
 */
const HALF_TURN = 180
const WHOLE_TURN = 360
/** Degrees of latitude. A ring that stays below is a line that an atlas draws around the South Pole. */
const POLE_LATITUDE = -89

/** @returns the parts of a polygon on either side of the antimeridian; the polygon itself if it does not cross it */
export function cutPolygon(polygon: Polygon): Polygon[] {
  const [outer, ...holes] = polygon
  // On a globe such a ring encloses the rest of the world, and the coast of the continent at the pole is a hole in it.
  if (outer!.every(([, latitude]) => latitude! < POLE_LATITUDE))
    return holes.map((coast) => [aroundPole(coast)])
  const unrolled = polygon.map(unroll)
  const longitudes = unrolled[0]!.map(([longitude]) => longitude!)
  if (Math.max(...longitudes) <= HALF_TURN && Math.min(...longitudes) >= -HALF_TURN) return [polygon]
  const turns = [-WHOLE_TURN, 0, WHOLE_TURN]
  return turns
    .map((turn) =>
      unrolled
        .map((ring) => clip(ring.map(([longitude, ...rest]) => [longitude! + turn, ...rest])))
        .filter((ring) => ring.length > 0),
    )
    .filter((parts) => parts.length > 0)
}

/** Continues longitudes beyond 180 if a step of more than half a turn shows that the ring crosses the antimeridian. */
function unroll(ring: Ring): Ring {
  let turn = 0
  return ring.map((position, index) => {
    const [longitude, ...rest] = position
    const before = ring[index - 1]?.[0]
    if (before !== undefined && Math.abs(longitude! - before) > HALF_TURN)
      turn += longitude! < before ? WHOLE_TURN : -WHOLE_TURN
    return [longitude! + turn, ...rest]
  })
}

/** Cuts a coast that goes around the pole at the antimeridian, and closes it along the pole. */
function aroundPole(coast: Ring): Ring {
  const open = coast.slice(0, -1)
  const jump = open.findIndex(
    ([longitude], index) => Math.abs(longitude! - open.at(index - 1)![0]!) > HALF_TURN,
  )
  const line = [...open.slice(jump), ...open.slice(0, jump)]
  const eastward = line[0]![0]! < 0 ? line : line.toReversed()
  const [west, east] = [eastward[0]![1]!, eastward.at(-1)![1]!]
  const corners = [
    [-HALF_TURN, -90],
    [HALF_TURN, -90],
    [HALF_TURN, east],
  ]
  return [...corners, ...eastward.toReversed(), [-HALF_TURN, west], corners[0]!]
}

/** Cuts off what is not between -180 and 180 (Sutherland and Hodgman, 1974, with two lines). */
function clip(ring: Ring): Ring {
  return clipAt(clipAt(ring, HALF_TURN, 1), -HALF_TURN, -1)
}

function clipAt(ring: Ring, edge: number, side: 1 | -1): Ring {
  const isInside = ([longitude]: Position) => side * (edge - longitude!) >= 0
  const kept: Position[] = []
  for (let index = 1; index < ring.length; index++) {
    const [from, to] = [ring[index - 1]!, ring[index]!]
    if (isInside(from) !== isInside(to)) {
      const share = (edge - from[0]!) / (to[0]! - from[0]!)
      kept.push([edge, from[1]! + share * (to[1]! - from[1]!)])
    }
    if (isInside(to)) kept.push(to)
  }
  return kept.length < 3 ? [] : [...kept, kept[0]!]
}
