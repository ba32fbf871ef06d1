// Owns the map of a page: its base map, its colours in light and dark, and the view that the address holds.

import { held, hold } from './address.js'
import { withToken } from './consistency.js'
import { SCHEMES } from './palette.js'

const element = document.getElementById('map')
export const data = element.dataset

const darkness = matchMedia('(prefers-color-scheme: dark)')
export const scheme = () => SCHEMES[darkness.matches ? 'dark' : 'light']
/** Calls back when the system changes between light and dark. @param signal ends it */
export const onScheme = (paint, signal) => darkness.addEventListener('change', paint, { signal })

/** West, south, east and north of what is shown if nothing else is known. */
const WORLD = [-180, -60, 180, 75]
/** Tiles of this level are exact to centimetres; further ones are drawn from them. */
const MAX_LEVEL = 18
/** Zoom beyond which a single point is not shown closer by itself. */
const CLOSE = 12

/** Returns a source of the tiles of a collection. */
export const tileSource = (url, query) => ({
  type: 'vector',
  tiles: [`${url}/tiles/WebMercatorQuad/{z}/{y}/{x}?${query}`],
  maxzoom: MAX_LEVEL,
})

/** Layers before which features are put, so that areas never cover lines, nor lines points. */
export const ABOVE = { areas: 'above-areas', lines: 'above-lines', points: 'above-points' }

/**
 * Opens the map. If the browser cannot draw it, for example without WebGL, its box says so, and the page works without.
 * @param around west, south, east and north, unless the address has another view; east may be beyond 180 degrees
 */
export async function openMap(around) {
  try {
    return await draw(around)
  } catch {
    element.textContent = 'This browser cannot draw the map, which needs WebGL.'
    return {}
  }
}

async function draw(around) {
  const maplibre = await import(data.maplibre)
  const view = viewIn(held('map'))
  const map = new maplibre.Map({
    container: element,
    style: styleOf(data.base && JSON.parse(data.base)),
    ...(view ?? { bounds: around ?? WORLD, fitBoundsOptions: { padding: 24, maxZoom: CLOSE } }),
    attributionControl: false,
    dragRotate: false,
    pitchWithRotate: false,
    maxPitch: 0,
    locale: {
      'Map.Title': `${element.getAttribute('aria-label')}: arrow keys move it, plus and minus zoom`,
    },
    // following.js looks for changes, less often than tiles say that they are old.
    refreshExpiredTiles: false,
    // A person sees their own changes in the next tile, and nobody sees one that the browser has kept without asking.
    transformRequest: (url, type) =>
      type === 'Tile' ? { url, headers: withToken(), cache: 'no-cache' } : { url },
  })
  map.touchZoomRotate.disableRotation()
  map.keyboard.disableRotation()
  map.addControl(new maplibre.NavigationControl({ showCompass: false }))
  // Without a listener, MapLibre logs what layers.js tells people.
  map.on('error', () => {})
  element.ariaBusy = 'true'
  map.on('dataloading', () => {
    element.ariaBusy = 'true'
  })
  map.on('idle', () => {
    element.ariaBusy = 'false'
  })
  map.on('moveend', (event) => isByPerson(event) && hold('map', textOfView(map)))
  onScheme(() => {
    for (const [layer, property, name] of BASE) map.setPaintProperty(layer, property, scheme()[name])
  })
  await new Promise((resolve) => map.once('load', resolve))
  return { map, maplibre, hasView: view !== undefined }
}

/** True if a person has moved the map, and no script. */
export const isByPerson = ({ originalEvent }) => originalEvent !== undefined

/** Layers of the base map with the property that has their colour, and its name. */
const BASE = [
  ['sea', 'background-color', 'sea'],
  ['land', 'fill-color', 'land'],
  ['border', 'line-color', 'border'],
]

function styleOf(base) {
  const paint = Object.fromEntries(
    BASE.map(([layer, property, name]) => [layer, { [property]: scheme()[name] }]),
  )
  const from = base && { source: 'base', 'source-layer': base.layer }
  return {
    version: 8,
    sources: base ? { base: tileSource(base.url, 'properties=') } : {},
    layers: [
      { id: 'sea', type: 'background', paint: paint.sea },
      ...(base
        ? [
            { id: 'land', type: 'fill', ...from, paint: paint.land },
            { id: 'border', type: 'line', ...from, paint: paint.border },
          ]
        : []),
      ...Object.values(ABOVE).map((id) => ({ id, type: 'background', layout: { visibility: 'none' } })),
    ],
  }
}

const VIEW = /^(\d+(?:\.\d+)?)\/(-?\d+(?:\.\d+)?)\/(-?\d+(?:\.\d+)?)$/
const MAX_ZOOM = 22

/** Parses a view as an address has it: zoom, latitude, longitude. */
function viewIn(text) {
  const [, zoom, latitude, longitude] = (VIEW.exec(text ?? '') ?? []).map(Number)
  const isPlace = zoom <= MAX_ZOOM && Math.abs(latitude) <= 90
  return isPlace ? { zoom, center: [longitude, latitude] } : undefined
}

function textOfView(map) {
  const { lng, lat } = map.getCenter().wrap()
  return [map.getZoom().toFixed(2), lat.toFixed(5), lng.toFixed(5)].map(Number).join('/')
}

/** Returns the west, south, east and north of all features; undefined if they have no coordinates. */
export function boundsOf(features) {
  let bounds
  const extend = (coordinates) => {
    if (typeof coordinates[0] !== 'number') return coordinates.forEach(extend)
    const [x, y] = coordinates
    bounds = bounds
      ? [Math.min(bounds[0], x), Math.min(bounds[1], y), Math.max(bounds[2], x), Math.max(bounds[3], y)]
      : [x, y, x, y]
  }
  const visit = (geometry) => {
    if (!geometry) return
    if (geometry.geometries) geometry.geometries.forEach(visit)
    else extend(geometry.coordinates)
  }
  for (const { geometry } of features) visit(geometry)
  return bounds
}

/** Parses the numbers of a box; its east is beyond 180 degrees if it crosses the antimeridian. */
export function boxIn(text) {
  const box = text?.split(',').map(Number)
  return box?.length === 4 ? [box[0], box[1], box[2] < box[0] ? box[2] + 360 : box[2], box[3]] : undefined
}

export const fit = (map, [west, south, east, north]) =>
  map?.fitBounds(
    [
      [west, south],
      [east, north],
    ],
    { padding: 40, maxZoom: CLOSE, animate: false },
  )
