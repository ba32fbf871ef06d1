// Owns what a place on the map snaps to: the points and edges of the features around it, exactly as they are stored.

import { withToken } from './consistency.js'
import { addFeatureLayers } from './feature-layer.js'
import { readAnswer } from './json.js'
import { scheme } from './map.js'

/** Pixels within which a place snaps. */
const REACH = 12
/** Most features of a view that are read: beyond, a person cannot tell what a place has snapped to. */
const MAX_NEIGHBOURS = 200
/** Moves of the map that follow one another within this time read features only once. */
const SETTLE_MS = 200
const SOURCE = 'neighbours'

/**
 * Shows the other features of the view while somebody draws.
 * @param items address of the features
 * @param own id of the feature that is being changed; undefined for a new one
 * @param tell called with a sentence for people; empty if there is nothing to say
 */
export function openSnapping(map, items, own, tell) {
  let paths = []
  let reading = new AbortController()
  let settling

  map.addSource(SOURCE, { type: 'geojson', data: collectionOf([]) })
  const drawn = addFeatureLayers(map, SOURCE, { colour: scheme().rest })

  async function look() {
    reading.abort()
    reading = new AbortController()
    const { signal } = reading
    const view = map.getBounds()
    const box = [view.getWest(), view.getSouth(), view.getEast(), view.getNorth()]
    const bbox = box.map((side) => side.toFixed(6)).join()
    try {
      const address = `${items}?f=json&limit=${MAX_NEIGHBOURS}&bbox=${bbox}`
      const { features, links } = await readAnswer(await fetch(address, { signal, headers: withToken() }))
      if (signal.aborted) return
      const isComplete = !links.some(({ rel }) => rel === 'next')
      const others = features.filter(({ id }) => isComplete && String(id) !== own)
      paths = others.flatMap(({ geometry }) => pathsOf(geometry))
      map.getSource(SOURCE).setData(collectionOf(others))
      tell(isComplete ? '' : 'Too many features are in view to snap to them; there are fewer closer up.')
    } catch (error) {
      if (signal.aborted) return
      paths = []
      tell(
        `The features around it could not be read: ${error instanceof TypeError ? 'the gateway does not answer.' : error.message}`,
      )
    }
  }
  function settle() {
    clearTimeout(settling)
    settling = setTimeout(look, SETTLE_MS)
  }
  map.on('moveend', settle)
  look()

  return {
    /** Returns the place that this one snaps to; undefined if there is none. */
    snap({ lng, lat }) {
      const { x, y } = map.project({ lng, lat })
      const aside = map.unproject([x + 1, y + 1])
      const scale = [1 / (aside.lng - lng), 1 / (aside.lat - lat)]
      const found = nearest(paths, [lng, lat], scale, REACH)
      return found && { lng: found[0], lat: found[1] }
    },
    close() {
      clearTimeout(settling)
      reading.abort()
      map.off('moveend', settle)
      drawn.remove()
      map.removeSource(SOURCE)
    },
  }
}

const collectionOf = (features) => ({ type: 'FeatureCollection', features })

/** Returns the lists of places of a geometry, which follow one another along its edges. */
function pathsOf(geometry) {
  if (!geometry) return []
  const { type, coordinates, geometries } = geometry
  if (geometries) return geometries.flatMap(pathsOf)
  const listed = {
    Point: () => [[coordinates]],
    MultiPoint: () => coordinates.map((place) => [place]),
    LineString: () => [coordinates],
    MultiLineString: () => coordinates,
    Polygon: () => coordinates,
    MultiPolygon: () => coordinates.flat(),
  }
  return listed[type]().map((places) => ({ places, box: boxOf(places) }))
}

function boxOf(places) {
  const box = [Infinity, Infinity, -Infinity, -Infinity]
  for (const [x, y] of places) {
    box[0] = Math.min(box[0], x)
    box[1] = Math.min(box[1], y)
    box[2] = Math.max(box[2], x)
    box[3] = Math.max(box[3], y)
  }
  return box
}

/**
 * Returns the nearest point of the paths, or if there is none within reach, the nearest place on an edge.
 * @param scale pixels per degree, to the east and to the north
 */
function nearest(paths, [x, y], [east, north], reach) {
  const [wide, high] = [Math.abs(reach / east), Math.abs(reach / north)]
  let corner = { distance: reach }
  let edge = { distance: reach }
  for (const { places, box } of paths) {
    if (x < box[0] - wide || y < box[1] - high || x > box[2] + wide || y > box[3] + high) continue
    let before
    for (const place of places) {
      const there = [(place[0] - x) * east, (place[1] - y) * north]
      const distance = Math.hypot(...there)
      if (distance < corner.distance) corner = { distance, place }
      if (before) {
        const [dx, dy] = [there[0] - before[0], there[1] - before[1]]
        const length = dx * dx + dy * dy
        const share = length === 0 ? 0 : Math.min(1, Math.max(0, -(before[0] * dx + before[1] * dy) / length))
        const [nearX, nearY] = [before[0] + share * dx, before[1] + share * dy]
        const aside = Math.hypot(nearX, nearY)
        if (aside < edge.distance) edge = { distance: aside, place: [x + nearX / east, y + nearY / north] }
      }
      before = there
    }
  }
  return corner.place ?? edge.place
}
