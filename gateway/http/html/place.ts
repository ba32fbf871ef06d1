// Owns the coordinates of a feature on its page: the choice of their system, their list, and the fields that change them.

import { html } from 'ghtml'
import type { Collection } from '../../features/collections/collection.ts'
import { type CoordinateSystem, DEGREES, nameOfSystem } from '../../features/values/coordinate-system.ts'
import { HEIGHT, type ListedGeometry, listPositions } from './assets/positions.js'

export type Place = {
  /** The system of the coordinates. */
  readonly system: CoordinateSystem
  /** True if the address names it. */
  readonly isChosen: boolean
  readonly geometry: ListedGeometry | null
  /** True if the geometry is left out, because it is long. */
  readonly isLong: boolean
}

/** Returns the coordinates as a table, below the choice of their system. @param file address of the feature as GeoJSON */
export function placeSection({ systems }: Collection, place: Place, file: string | undefined): string {
  const { system } = place
  const options = systems.map(
    (one) =>
      html`<option value="${one.uri}"!${one.uri === system.uri ? ' selected' : ''}>${labelOf(one)}</option>`,
  )
  return html`<section id="coordinates" aria-labelledby="coordinates-title">
        <h2 id="coordinates-title">Coordinates</h2>
        <form>
          <input type="hidden" name="f" value="html">
          <label for="crs">Coordinate system</label>
          <div class="line"><div><select id="crs" name="crs">!${options.join('')}</select></div><button type="submit">Show</button></div>
        </form>
        !${place.isLong ? html`<p class="none">The geometry has too many positions for this page. <a href="${file}">The feature as GeoJSON</a> has all of them.</p>` : listOf(place)}
      </section>`
}

/** Returns the positions; item.js writes them again after a change. */
function listOf({ system: { axes }, geometry }: Place): string {
  const { head, rows } = listPositions(geometry, axes)
  const isEmpty = rows.length === 0
  const body = rows.map((row) => html`<tr>!${row.map((text) => html`<td>${text}</td>`).join('')}</tr>`)
  return html`<div class="scroll" id="listed" tabindex="0" role="region" aria-label="Positions"!${isEmpty ? ' hidden' : ''}>
          <table id="positions" data-axes="${JSON.stringify(axes)}"><thead><tr>!${head.map((name) => html`<th scope="col">${name}</th>`).join('')}</tr></thead>
          <tbody>!${body.join('')}</tbody></table>
        </div>
        <p id="nowhere" class="none"!${isEmpty ? '' : ' hidden'}>The feature has no geometry, or none in this system.</p>`
}

/** True if positions are as on maps: longitude and latitude. */
export const isOfMaps = ({ srid, isNorthFirst }: CoordinateSystem) => srid === DEGREES && !isNorthFirst

/**
 * Returns the fields of the place in a form: its GeoJSON, which is sent, and the coordinates of a point. form.js keeps them
 * equal. The GeoJSON is also what can be changed of a geometry that the map cannot draw.
 */
export function placeFields({ geometry, capabilities }: Collection, system: CoordinateSystem): string {
  const { column, type, dimension, isNullable } = geometry
  if (!capabilities!.columns.has(column)) return ''
  const axes = /^POINTZ?$/.test(type) ? [...system.axes, ...(dimension === 3 ? [HEIGHT] : [])] : []
  const required = isNullable ? '' : ' required'
  const fields = axes.map(
    (axis) =>
      html`<label>${axis} <input type="text" data-axis inputmode="decimal" autocomplete="off"!${required}></label>`,
  )
  const point = html`<fieldset id="axes"><legend>Coordinates in ${nameOfSystem(system)}</legend>!${fields.join('')}</fieldset>`
  const note =
    '<p>With this coordinate system, the place cannot be drawn on the map, which has longitude and latitude.</p>'
  return html`!${axes.length > 0 ? point : ''}!${isOfMaps(system) ? '' : note}
        <details><summary>Place as GeoJSON in ${labelOf(system)}</summary>
          <textarea id="place" rows="4" spellcheck="false" aria-label="Place as GeoJSON"></textarea></details>`
}

/** Returns a system with its axes in their order, as people choose it. */
const labelOf = (system: CoordinateSystem) => `${nameOfSystem(system)} (${system.axes.join(', ')})`
