// Owns the maps of pages: what their scripts draw them from, and their controls.

import { html } from 'ghtml'
import type { Collection } from '../../features/collections/collection.ts'
import type { Extent } from '../../features/collections/extent.ts'
import { isSummarized } from '../../features/query/column-summary.ts'
import { dimensionOf } from '../../features/tiles/tileset.ts'
import { collectionUrl } from '../feature-response.ts'
import { cornersOf } from '../tileset.ts'
import { assetsAt, DRAWING, MAPLIBRE } from './assets.ts'

/** What is below the features: outlines of countries. */
export type BaseMap = {
  /** URL of the collection that has them. */
  readonly url: string
  /** Name of the layer in its tiles. */
  readonly layer: string
}

/** Returns our own countries as base map; undefined if they are not served. */
export function baseMapOf(base: string, collections: readonly Collection[]): BaseMap | undefined {
  const found = collections.find(
    ({ id, geometry }) => id === 'countries' && geometry.type.includes('POLYGON'),
  )
  return found && { url: collectionUrl(base, found), layer: found.id }
}

type MapData = {
  /** Accessible name of the map. */
  readonly label: string
  readonly baseMap: BaseMap | undefined
  /** What one script alone needs, by the names of its data attributes. */
  readonly own?: Readonly<Record<string, string | undefined>>
}

/** Returns the element that a map is drawn into; scripts read everything else from its data attributes. */
export function mapOf(base: string, { label, baseMap, own = {} }: MapData): string {
  const attributes = Object.entries({
    base: baseMap && JSON.stringify(baseMap),
    maplibre: `${assetsAt(base)}${MAPLIBRE}/maplibre-gl.mjs`,
    ...own,
  })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => html` data-${name}="${value}"`)
  return html`<div id="map" aria-label="${label}" role="region"!${attributes.join('')}><noscript>The map and the editing of features need JavaScript.</noscript></div>`
}

/** Buttons that draw a shape of each kind. */
const SHAPES = { point: 'Draw a point', line: 'Draw a line', area: 'Draw an area', hole: 'Cut a hole' }

/** Returns the kinds of shapes that a geometry of this type can have; none if it cannot be drawn. */
function shapesOf(type: string): (keyof typeof SHAPES)[] {
  if (type === 'GEOMETRY') return ['point', 'line', 'area', 'hole']
  if (/^(MULTI)?POINT$/.test(type)) return ['point']
  if (/^(MULTI)?LINESTRING$/.test(type)) return ['line']
  return /^(MULTI)?POLYGON$/.test(type) ? ['area', 'hole'] : []
}

/**
 * Returns a map with the tools with which a feature is drawn on it; drawing.js shows them. They are left out if the
 * geometry cannot be set, or not be drawn: with heights, for example, which no map shows.
 * @param view HTML of the map
 */
export function withTools(base: string, { geometry, capabilities }: Collection, view: string): string {
  const { column, type } = geometry
  const shapes = shapesOf(type)
  if (shapes.length === 0 || !capabilities?.columns.has(column)) return view
  const scripts = DRAWING.map((script) => assetsAt(base) + script).join(' ')
  const isMany = type === 'GEOMETRY' || type.startsWith('MULTI')
  const hasCorners = shapes.some((shape) => shape !== 'point')
  const draw = shapes.map(
    (shape) => html`<button type="button" name="${shape}" aria-pressed="false">${SHAPES[shape]}</button>`,
  )
  return html`<div id="tools" role="group" aria-label="Drawing" data-scripts="${scripts}"!${isMany ? ' data-many' : ''} hidden>
        !${draw.join(' ')}
        !${hasCorners ? '<button type="button" name="finish">Finish</button> <button type="button" name="corner" aria-pressed="false">Remove points</button>' : ''}
        <button type="button" name="shape">Remove shape</button>
        <button type="button" name="undo">Undo</button>
        <button type="button" name="redo">Redo</button>
        <label class="check"><input type="checkbox" name="snap" checked>Snap to neighbours</label>
      </div>
      !${view}
      <p id="hint" role="status"></p>`
}

/** Layers that are on from the start on a map of many collections: each further one costs tiles. */
const MAX_SHOWN = 12

/** Names of columns that name a feature, the best one first. */
const NAMES = ['name', 'title', 'label']

/** Returns the column whose values name features for people; undefined if there is none. */
const labelOf = ({ properties }: Collection) =>
  NAMES.map((name) => properties.find((column) => column.name.toLowerCase() === name)).find(Boolean) ??
  properties.find(({ kind, isArray }) => kind === 'string' && !isArray)

/** Returns a collection as layers.js draws it. */
const layerOf = (base: string, collection: Collection) => ({
  id: collection.id,
  title: collection.title,
  url: collectionUrl(base, collection),
  /** Name of the key; a feature has no address without one. */
  key: collection.idColumn?.name,
  /** True if tiles have the key as the id of the feature, unless it is out of range. */
  isNumbered: collection.idColumn?.kind === 'integer',
  label: labelOf(collection)?.name,
  dimension: dimensionOf(collection),
  columns: collection.properties.map(({ name, kind }) => [name, kind]),
  isTemporal: collection.temporal !== undefined,
  isEditable: collection.capabilities?.canUpdate === true || collection.capabilities?.canRemove === true,
})

/** A collection on a map, and where its features are. */
export type Shown = { readonly collection: Collection; readonly extent: Extent }

/** Returns a map of collections with its controls; with several of them, each can be hidden. */
export function exploringMap(
  base: string,
  {
    label,
    baseMap,
    shown,
    own = {},
    drawn,
  }: MapData & {
    readonly shown: readonly Shown[]
    /** Collection whose features are drawn on it. */
    readonly drawn?: Collection | undefined
  },
): string {
  const map = mapOf(base, {
    label,
    baseMap,
    own: {
      layers: JSON.stringify(shown.map(({ collection }) => layerOf(base, collection))),
      // Collections without features say nothing about where the others are.
      bounds: cornersOf(shown.filter(({ extent }) => extent.bbox))?.join(),
      ...own,
    },
  })
  const isMany = shown.length > 1
  const controls = shown.map(({ collection }, index) => {
    const { id, title, attribution } = collection
    const choice = isMany
      ? html`<label class="check"><input type="checkbox" name="layer" value="${id}"!${index < MAX_SHOWN ? ' checked' : ''}><span class="swatch" data-swatch></span>${title}</label>
        <a href="${collectionUrl(base, collection)}/items?f=html">Table<span class="unseen"> of ${title}</span></a>`
      : ''
    return html`<li data-layer="${id}">!${choice}!${colours(collection, isMany)}
        <p class="fault" role="alert" hidden><span></span> <button type="button">Try again</button></p>
        !${isMany && attribution ? html`<small>${attribution}</small>` : ''}</li>`
  })
  const view = html`<div class="view">
        !${map}
        <p id="tip" aria-hidden="true" hidden></p>
        <section id="chosen" aria-label="Chosen feature" tabindex="-1" hidden></section>
      </div>`
  return html`<div class="map!${isMany ? ' whole' : ''}">
      !${drawn ? withTools(base, drawn, view) : view}
      <form id="controls" aria-label="Map" hidden>!${timeOf(shown)}<ul class="layers">!${controls.join('')}</ul></form>
    </div>`
}

/**
 * Returns the choice of an interval, for collections with a temporal column whose first and last time are known; time.js
 * shows it.
 */
function timeOf(shown: readonly Shown[]): string {
  const known = shown.flatMap(({ collection: { temporal }, extent: { interval } }) => {
    const [start, end] = interval ?? []
    return temporal && start && end ? [{ kind: temporal.kind, start, end }] : []
  })
  if (known.length === 0) return ''
  // RFC 3339 in UTC is in the order of its text.
  const start = known.map((one) => one.start).reduce((least, one) => (one < least ? one : least))
  const end = known.map((one) => one.end).reduce((most, one) => (one > most ? one : most))
  if (start === end) return ''
  const kind = known.every((one) => one.kind === 'date') ? 'date' : 'timestamp'
  return html`<fieldset id="time" data-kind="${kind}" data-start="${start}" data-end="${end}" hidden>
        <legend>Time</legend>
        <label>From <input type="range" name="from" min="0" step="1"></label>
        <label>Until <input type="range" name="until" min="0" step="1"></label>
        <p><output></output> <button type="button" hidden>All times</button></p>
      </fieldset>`
}

/** Returns the choice of the property that features are coloured by, and the place of its legend. */
function colours({ title, properties }: Collection, isMany: boolean): string {
  const options = properties
    .filter(isSummarized)
    .map(({ name }) => html`<option value="${name}">${name}</option>`)
  if (options.length === 0) return ''
  return html`<label class="colours">Colours<span class="!${isMany ? 'unseen' : ''}"> of ${title}</span> <select name="colour"><option value="">one for all</option>!${options.join('')}</select></label>
        <ul class="legend" aria-label="Legend of ${title}" hidden></ul>`
}
