// Owns the documents about tiles: tileset metadata (OGC 17-083r4), TileJSON 3.0, and styles for MapLibre.

import type { Collection } from '../features/collections/collection.ts'
import type { Extent } from '../features/collections/extent.ts'
import type { Link } from '../features/formats/format.ts'
import { limitsOf, type TileMatrixSet, WEB_MERCATOR_QUAD } from '../features/tiles/tile-matrix-set.ts'
import { dimensionOf, layerProperties } from '../features/tiles/tileset.ts'
import { CRS84 } from '../features/values/coordinate-system.ts'
import { collectionUrl } from './feature-response.ts'
import { licenseUrl, link } from './links.ts'
import { JSON_FORMAT, MVT, TILEJSON } from './negotiate.ts'

const REL = 'http://www.opengis.net/def/rel/ogc/1.0/'

/** Relation of the list of tile matrix sets. */
export const TILING_SCHEMES = `${REL}tiling-schemes`

/** What a tileset is made of. */
export type TileSource = {
  /** URL of what it belongs to: a collection, or the API itself. */
  readonly url: string
  readonly title: string
  readonly description: string | undefined
  readonly layers: readonly { readonly collection: Collection; readonly extent: Extent }[]
  /** The parameter that chooses the layers, with `?` before it; empty if they are all that there are. */
  readonly choice: string
}

export const tilesetUrl = ({ url }: TileSource, { id }: TileMatrixSet) => `${url}/tiles/${id}`
export const tileMatrixSetUrl = (base: string, { id }: TileMatrixSet) => `${base}/tileMatrixSets/${id}`

/** Returns the links from a collection, or from the landing page, to its tiles. @param url see TileSource */
export const tileLinks = (url: string): Link[] => [
  link(`${REL}tilesets-vector`, `${url}/tiles`, JSON_FORMAT.types[0], 'Vector tiles'),
  link('describedby', `${url}/tilejson.json`, TILEJSON.types[0], 'Vector tiles as TileJSON'),
  link('describedby', `${url}/style.json`, STYLE_TYPE, 'A map of vector tiles for MapLibre'),
]

export const STYLE_TYPE = 'application/vnd.mapbox.style+json'

/** Returns the smallest box around all layers; undefined if one of them is not known. */
export function cornersOf(layers: TileSource['layers']): Extent['bbox'] {
  const [first, ...others] = layers.map(({ extent }) => extent.bbox)
  return others.reduce(
    (all, one) =>
      all &&
      one && [
        Math.min(all[0], one[0]),
        Math.min(all[1], one[1]),
        Math.max(all[2], one[2]),
        Math.max(all[3], one[3]),
      ],
    first,
  )
}

/** Returns an entry of a list of tilesets. */
export const renderTilesetItem = (base: string, source: TileSource, set: TileMatrixSet) => ({
  title: `${source.title} (${set.id})`,
  dataType: 'vector',
  crs: set.crs,
  tileMatrixSetURI: set.uri,
  links: [
    link('self', tilesetUrl(source, set) + source.choice, JSON_FORMAT.types[0], 'This tileset'),
    link(`${REL}tiling-scheme`, tileMatrixSetUrl(base, set), JSON_FORMAT.types[0], set.title),
  ],
})

/** Returns the metadata of a tileset. @param own links to the document itself */
export function renderTileset(base: string, source: TileSource, set: TileMatrixSet, own: readonly Link[]) {
  const { title, description, layers, url, choice } = source
  const corners = cornersOf(layers)
  const [first] = layers
  const { license, attribution } = layers.length === 1 ? first!.collection : {}
  return {
    title,
    ...(description === undefined ? {} : { description }),
    ...(attribution === undefined ? {} : { attribution }),
    ...(license === undefined ? {} : { license: licenseUrl(license) }),
    mediaTypes: [MVT.types[0]],
    dataType: 'vector',
    crs: set.crs,
    tileMatrixSetURI: set.uri,
    tileMatrixSetLimits: limitsOf(set, corners),
    ...(corners ? { boundingBox: renderBox(corners) } : {}),
    layers: layers.map(({ collection, extent }) => {
      const dimension = dimensionOf(collection)
      return {
        id: collection.id,
        title: collection.title,
        ...(collection.description === undefined ? {} : { description: collection.description }),
        dataType: 'vector',
        ...(dimension === undefined ? {} : { geometryDimension: dimension }),
        crs: set.crs,
        ...(extent.bbox ? { boundingBox: renderBox(extent.bbox) } : {}),
        propertiesSchema: { type: 'object', properties: layerProperties(collection) },
        links: [
          link(`${REL}geodata`, collectionUrl(base, collection), JSON_FORMAT.types[0], collection.title),
        ],
      }
    }),
    links: [
      ...own,
      link(`${REL}tiling-scheme`, tileMatrixSetUrl(base, set), JSON_FORMAT.types[0], set.title),
      {
        ...link(
          'item',
          `${tilesetUrl(source, set)}/{tileMatrix}/{tileRow}/{tileCol}${choice}`,
          MVT.types[0],
          'A tile',
        ),
        templated: true,
      },
      ...layers.map(({ collection }) =>
        link(`${REL}geodata`, collectionUrl(base, collection), JSON_FORMAT.types[0], collection.title),
      ),
      link(`${REL}dataset`, `${base}/`, JSON_FORMAT.types[0], 'The API'),
      link(
        `${REL}conformance`,
        `${base}/conformance`,
        JSON_FORMAT.types[0],
        'The standards that it conforms to',
      ),
      ...(set === WEB_MERCATOR_QUAD
        ? [link('describedby', `${url}/style.json${choice}`, STYLE_TYPE, 'A map for MapLibre')]
        : []),
    ],
  }
}

const renderBox = ([west, south, east, north]: NonNullable<Extent['bbox']>) => ({
  lowerLeft: [west, south],
  upperRight: [east, north],
  crs: CRS84.uri,
})

/** Returns a tileset as TileJSON. */
export function renderTileJson(source: TileSource) {
  const { title, description, layers, choice } = source
  const set = WEB_MERCATOR_QUAD
  const corners = cornersOf(layers)
  const credits = [...new Set(layers.flatMap(({ collection }) => collection.attribution ?? []))]
  const zooms = { minzoom: 0, maxzoom: set.levels - 1 }
  return {
    tilejson: '3.0.0',
    name: title,
    ...(description === undefined ? {} : { description }),
    ...(credits.length > 0 ? { attribution: credits.join(', ') } : {}),
    scheme: 'xyz',
    tiles: [`${tilesetUrl(source, set)}/{z}/{y}/{x}${choice}`],
    ...zooms,
    ...(corners ? { bounds: [...corners] } : {}),
    vector_layers: layers.map(({ collection }) => ({
      id: collection.id,
      description: collection.description ?? collection.title,
      ...zooms,
      fields: Object.fromEntries(
        Object.entries(layerProperties(collection)).map(([name, { type, description }]) => [
          name,
          description ?? { integer: 'Number', number: 'Number', boolean: 'Boolean', string: 'String' }[type],
        ]),
      ),
    })),
  }
}

/** Colours of layers, one after another, which can be told apart. */
const COLOURS = ['#1f6f8b', '#b5532a', '#4a7c34', '#7a4b94', '#a8842c', '#b03a5b']

/** Returns a style that draws all layers: areas first, then lines, then points. */
export function renderStyle(source: TileSource) {
  const { url, title, layers, choice } = source
  const corners = cornersOf(layers)
  const id = 'tessera'
  const drawn = layers.flatMap(({ collection }, index) => {
    const colour = COLOURS[index % COLOURS.length]!
    const dimension = dimensionOf(collection)
    const of = (wanted: 0 | 1 | 2, type: string, paint: object) =>
      dimension === undefined || dimension === wanted
        ? [
            {
              order: 2 - wanted,
              layer: {
                id: `${collection.id}-${type}`,
                type,
                source: id,
                'source-layer': collection.id,
                ...(dimension === undefined
                  ? { filter: ['==', ['geometry-type'], ['Point', 'LineString', 'Polygon'][wanted]] }
                  : {}),
                paint,
              },
            },
          ]
        : []
    return [
      ...of(2, 'fill', { 'fill-color': colour, 'fill-opacity': 0.3, 'fill-outline-color': colour }),
      ...of(1, 'line', { 'line-color': colour, 'line-width': 1.5 }),
      ...of(0, 'circle', {
        'circle-color': colour,
        'circle-radius': ['interpolate', ['linear'], ['zoom'], 0, 1.5, 12, 5],
        'circle-stroke-color': '#ffffff',
        'circle-stroke-width': ['interpolate', ['linear'], ['zoom'], 4, 0, 12, 1],
      }),
    ]
  })
  return {
    version: 8,
    name: title,
    ...(corners ? { center: [(corners[0] + corners[2]) / 2, (corners[1] + corners[3]) / 2] } : {}),
    sources: { [id]: { type: 'vector', url: `${url}/tilejson.json${choice}` } },
    layers: [
      { id: 'background', type: 'background', paint: { 'background-color': '#f4f1ea' } },
      ...drawn.toSorted((a, b) => a.order - b.order).map(({ layer }) => layer),
    ],
  }
}
