// Owns the map of a collection's page, which shows the collection's extent.

import { data, drawFeatures, fit, openMap } from './map.js'

const { map } = await openMap()
if (data.bbox) {
  const numbers = data.bbox.split(',').map(Number)
  const [west, south] = numbers
  const [east, north] = numbers.length === 6 ? numbers.slice(3) : numbers.slice(2)
  // A box that crosses the antimeridian is drawn beyond 180 degrees.
  const right = east < west ? east + 360 : east
  const ring = [
    [west, south],
    [right, south],
    [right, north],
    [west, north],
    [west, south],
  ]
  drawFeatures(map, [{ type: 'Feature', properties: {}, geometry: { type: 'Polygon', coordinates: [ring] } }])
  fit(map, [west, south, right, north])
}
