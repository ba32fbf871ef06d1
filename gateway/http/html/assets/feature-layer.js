// Owns how features are drawn: the layers of one source of areas, lines and points, in the colours of the page.

import { ABOVE, scheme } from './map.js'

const isHovered = ['boolean', ['feature-state', 'hover'], false]
const hovered = (yes, no) => ['case', isHovered, yes, no]
/** Grows with the zoom. @param sizes at zoom 1, 6 and 12 @param more what is added for the feature under the pointer */
const growing = (sizes, more) => [
  'interpolate',
  ['linear'],
  ['zoom'],
  ...[1, 6, 12].flatMap((zoom, index) => [zoom, hovered(sizes[index] + more, sizes[index])]),
]

/** What geometries of each dimension are drawn as. */
const PARTS = [
  {
    name: 'areas',
    dimension: 2,
    type: 'fill',
    paint: (colour) => ({ 'fill-color': colour, 'fill-opacity': hovered(0.65, 0.4) }),
    above: ABOVE.areas,
  },
  {
    name: 'edges',
    dimension: 2,
    type: 'line',
    paint: (colour) => ({ 'line-color': colour, 'line-width': growing([0.75, 1.25, 2], 1.5) }),
    above: ABOVE.areas,
  },
  {
    name: 'lines',
    dimension: 1,
    type: 'line',
    paint: (colour) => ({ 'line-color': colour, 'line-width': growing([1.5, 2, 3], 2) }),
    above: ABOVE.lines,
  },
  {
    name: 'points',
    dimension: 0,
    type: 'circle',
    paint: (colour) => ({
      'circle-color': colour,
      'circle-radius': growing([2.25, 3.75, 6], 2),
      'circle-stroke-color': scheme().outline,
      'circle-stroke-width': ['interpolate', ['linear'], ['zoom'], 2, 0.25, 8, 1.5],
    }),
    above: ABOVE.points,
  },
]
const GEOMETRIES = ['Point', 'LineString', 'Polygon']

/**
 * Adds the layers of a source.
 * @param sourceLayer undefined for GeoJSON
 * @param dimension 0, 1 or 2; undefined if there are several
 */
export function addFeatureLayers(map, source, { sourceLayer, dimension, colour, isVisible = true }) {
  const parts = PARTS.filter((part) => dimension === undefined || part.dimension === dimension)
  const ids = parts.map(({ name, dimension: own, type, paint, above }) => {
    const id = `${source} ${name}`
    map.addLayer(
      {
        id,
        type,
        source,
        ...(sourceLayer === undefined ? {} : { 'source-layer': sourceLayer }),
        filter: ['==', ['geometry-type'], GEOMETRIES[own]],
        layout: { visibility: isVisible ? 'visible' : 'none' },
        paint: paint(colour),
      },
      above,
    )
    return id
  })
  return {
    ids,
    setColour(next) {
      for (const [index, { paint }] of parts.entries())
        for (const [property, value] of Object.entries(paint(next)))
          map.setPaintProperty(ids[index], property, value)
    },
    setVisible: (isShown) => {
      for (const id of ids) map.setLayoutProperty(id, 'visibility', isShown ? 'visible' : 'none')
    },
    remove: () => {
      for (const id of ids) map.removeLayer(id)
    },
  }
}

/**
 * Draws features that are at hand in place of those that were drawn before.
 * @param map undefined if there is none
 * @param index of their colour; features of different colours are drawn apart
 */
export function drawFeatures(map, features, index = 0) {
  if (!map) return
  const collection = { type: 'FeatureCollection', features }
  const name = `features ${index}`
  const source = map.getSource(name)
  if (source) return source.setData(collection)
  map.addSource(name, { type: 'geojson', data: collection })
  addFeatureLayers(map, name, { colour: scheme().kinds[index] })
}
