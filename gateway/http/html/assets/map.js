// Owns the map of a page: its base map, how features are drawn, and its colours in light and dark mode.

const element = document.getElementById('map')
export const data = element.dataset

const isDark = matchMedia('(prefers-color-scheme: dark)').matches
const color = isDark
  ? { sea: '#10202b', land: '#26323a', border: '#4a5863', feature: '#4fd1ae', outline: '#0b1216' }
  : { sea: '#dbe9f1', land: '#f6f3ec', border: '#b3b9bf', feature: '#00785b', outline: '#ffffff' }

const empty = { type: 'FeatureCollection', features: [] }

/** Opens the map. If the browser cannot draw it, for example without WebGL, its box says so, and the page works without. */
export async function openMap() {
  try {
    return await draw()
  } catch {
    element.textContent = 'This browser cannot draw the map, which needs WebGL.'
    return {}
  }
}

async function draw() {
  const maplibre = await import(data.maplibre)
  const map = new maplibre.Map({
    container: element,
    style: {
      version: 8,
      sources: {
        base: { type: 'geojson', data: data.baseMap ?? empty },
        features: { type: 'geojson', data: empty, generateId: true },
      },
      layers: [
        { id: 'sea', type: 'background', paint: { 'background-color': color.sea } },
        { id: 'land', type: 'fill', source: 'base', paint: { 'fill-color': color.land } },
        { id: 'border', type: 'line', source: 'base', paint: { 'line-color': color.border } },
        {
          id: 'areas',
          type: 'fill',
          source: 'features',
          filter: ['==', ['geometry-type'], 'Polygon'],
          paint: { 'fill-color': color.feature, 'fill-opacity': 0.35 },
        },
        {
          id: 'lines',
          type: 'line',
          source: 'features',
          filter: ['!=', ['geometry-type'], 'Point'],
          paint: { 'line-color': color.feature, 'line-width': 2 },
        },
        {
          id: 'points',
          type: 'circle',
          source: 'features',
          filter: ['==', ['geometry-type'], 'Point'],
          paint: {
            'circle-color': color.feature,
            'circle-radius': 6,
            'circle-stroke-color': color.outline,
            'circle-stroke-width': 1.5,
          },
        },
      ],
    },
    bounds: [-180, -60, 180, 75],
    attributionControl: false,
    dragRotate: false,
    pitchWithRotate: false,
    maxPitch: 0,
  })
  map.touchZoomRotate.disableRotation()
  map.keyboard.disableRotation()
  map.addControl(new maplibre.NavigationControl({ showCompass: false }))
  await new Promise((resolve) => map.once('load', resolve))
  return { map, maplibre }
}

export const FEATURE_LAYERS = ['points', 'areas', 'lines']

/** @param map undefined if there is none */
export const drawFeatures = (map, features) =>
  map?.getSource('features').setData({ type: 'FeatureCollection', features })

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

export const fit = (map, [west, south, east, north]) =>
  map?.fitBounds(
    [
      [west, south],
      [east, north],
    ],
    { padding: 40, maxZoom: 12, animate: false },
  )
