// Owns the pages of features: several in a table and on a map, or a single one with its form.

import { html } from 'ghtml'
import type { Collection } from '../../features/collections/collection.ts'
import type { Extent } from '../../features/collections/extent.ts'
import { CSV } from '../../features/formats/csv.ts'
import { encoders } from '../../features/formats/encoders.ts'
import type { Link } from '../../features/formats/format.ts'
import { GEOJSON } from '../../features/formats/geojson.ts'
import { NO_LIMIT } from '../../features/query/item-query.ts'
import type { Column } from '../../features/values/column.ts'
import type { CoordinateSystem } from '../../features/values/coordinate-system.ts'
import type { ExactNumber } from '../../features/values/exact-json.ts'
import { describeValue } from '../../features/values/value.ts'
import { collectionUrl, featureUrl } from '../feature-response.ts'
import type { ListedGeometry } from './assets/positions.js'
import { addressWithout, type FilterLine, filterLine } from './filter-line.ts'
import type { Page } from './layout.ts'
import type { Local } from './local.ts'
import { type BaseMap, exploringMap, mapOf, withTools } from './map.ts'
import { trailTo } from './overview-pages.ts'
import { isOfMaps, type Place, placeFields, placeSection } from './place.ts'

/** A feature as it is parsed from its JSON. */
export type ShownFeature = {
  readonly id?: string | number | ExactNumber
  readonly geometry: ListedGeometry | null
  readonly properties: Readonly<Record<string, unknown>>
}

/** Returns the address of a page of features. @param crs the URI of the coordinate system that a person has chosen */
const pageAt = (path: string, crs: string | undefined) =>
  `${path}?f=html${crs === undefined ? '' : `&crs=${encodeURIComponent(crs)}`}`

/** What both pages need. */
type Surroundings = {
  /** URL of the gateway, without a slash at its end. */
  readonly base: string
  readonly collection: Collection
  readonly links: readonly Link[]
  readonly baseMap: BaseMap | undefined
  readonly local: Local
}

/** Parameters that are no condition on features: without others, the collection itself has none to show. */
const NO_CONDITION = [
  ...['f', 'limit', 'properties', 'skipGeometry', 'sortby'],
  ...['crs', 'bbox-crs', 'filter-lang', 'filter-crs', 'csv-bom'],
]

/** Returns why a page has no features, and the addresses of those that may have some. */
function noFeatures(address: URLSearchParams): string {
  const isPast = address.has('cursor') || address.has('offset')
  const isConditional = [...address.keys()].some((name) => !NO_CONDITION.includes(name))
  const reason = isPast
    ? 'There are no more features.'
    : isConditional
      ? 'No feature meets these conditions.'
      : 'This collection has no features yet.'
  const ways = [
    isPast ? html`<a href="${addressWithout(address)}">From the first one</a>` : '',
    address.has('filter')
      ? html`<a href="${addressWithout(address, 'filter', 'filter-lang', 'filter-crs')}">Without the filter</a>`
      : '',
  ]
  return html`<p id="none" class="none"><span>${reason}</span> !${ways.filter(Boolean).join(' · ')}</p>`
}

export function itemsPage({
  base,
  collection,
  address,
  parameters,
  system,
  features,
  columns,
  links,
  baseMap,
  extent,
  local,
}: Surroundings &
  FilterLine & {
    /** The system of the coordinates of the page. */
    readonly system: CoordinateSystem
    readonly features: readonly ShownFeature[]
    readonly columns: readonly Column[]
    readonly extent: Extent
  }): Page {
  const { title, attribution, idColumn, capabilities } = collection
  const canAdd = capabilities?.canCreate === true
  const head = [idColumn?.name ?? 'id', ...columns.map(({ name }) => name)]
  const crs = address.get('crs') ?? undefined
  const row = ({ id, properties }: ShownFeature) => {
    const name =
      id === undefined
        ? ''
        : html`<a href="${pageAt(featureUrl(base, collection, String(id)), crs)}">${String(id)}</a>`
    const cells = columns.map((column) => html`<td>${local.value(properties[column.name], column.kind)}</td>`)
    return html`<tr><th scope="row">!${name}</th>!${cells.join('')}</tr>`
  }
  const next = links.find(({ rel }) => rel === 'next')
  const isEmpty = features.length === 0
  return {
    base,
    title,
    language: local.language,
    trail: [...trailTo(base, collection), { name: 'Features' }],
    links,
    script: 'items',
    main: html`!${filterLine({ base, collection, address, parameters })}
      <p><span id="status" role="status" aria-live="polite">${local.number(features.length)} ${features.length === 1 ? 'feature' : 'features'}.</span>
        <button type="button" id="again" hidden>Try again</button></p>
      !${canAdd ? '<p class="buttons"><button type="button" id="add" hidden>Add a feature</button> <span id="added" role="status"></span></p>' : ''}
      <div class="beside">
        !${exploringMap(base, {
          label: `${title} on a map`,
          baseMap,
          shown: [{ collection, extent }],
          drawn: canAdd && isOfMaps(system) ? collection : undefined,
          own: {
            items: `${collectionUrl(base, collection)}/items`,
            crs: formSystem(system),
            columns: JSON.stringify(columns.map(({ name, kind }) => [name, kind])),
          },
        })}
        <div>!${canAdd ? adder(collection, system) : ''}<div class="listed">!${isEmpty ? noFeatures(address) : '<p id="none" class="none" hidden><span></span></p>'}
        <div id="found" class="scroll" tabindex="0" role="region" aria-label="Features"!${isEmpty ? ' hidden' : ''}>
          <table id="features"><thead><tr>!${head.map((name) => html`<th scope="col">${name}</th>`).join('')}</tr></thead>
          <tbody>!${features.map(row).join('')}</tbody></table>
        </div></div></div>
      </div>
      <p class="paging">
        <a id="everywhere" class="button"!${address.has('bbox') ? '' : ' hidden'} href="${addressWithout(address, 'bbox', 'bbox-crs')}">Everywhere</a>
        <a id="next" class="button"!${next ? html` href="${next.href}"` : ' hidden'}>Next page</a>
      </p>
      !${downloads(collection, address)}
      <p><small>${attribution ?? ''}</small></p>`,
  }
}

/** Returns the links to all features of the page's query, as a file in each format. */
function downloads({ estimatedRows, isSteady }: Collection, address: URLSearchParams): string {
  const buttons = encoders.map(({ format: { name, title }, extensions: [extension] }) => {
    const query = new URLSearchParams(addressWithout(address, 'limit'))
    query.set('f', name)
    query.set('limit', NO_LIMIT)
    // Such a file is mostly opened in a spreadsheet program.
    if (name === CSV.name) query.set('csv-bom', 'true')
    return html`<a class="button" href="?${query.toString()}" data-format="${name}" title="Download as ${title}" download>.${extension}</a>`
  })
  // The estimate counts rows that policies hide, too.
  const size =
    isSteady && estimatedRows > 0
      ? ` The collection has about ${estimatedRows.toLocaleString('en')} of them.`
      : ''
  return html`<p>Download all features of this filter and area, not only those of this page.${size}</p>
      <p class="paging" id="downloads">!${buttons.join('')}</p>`
}

export function itemPage({
  base,
  collection,
  id,
  feature: { properties },
  place,
  links,
  baseMap,
  local,
}: Surroundings & {
  readonly id: string
  readonly feature: ShownFeature
  readonly place: Place
}): Page {
  const { attribution, capabilities } = collection
  const rows = collection.properties.map(
    ({ name, kind }) =>
      html`<tr><th scope="row">${name}</th><td data-property="${name}" data-kind="${kind}">${local.value(properties[name], kind)}</td></tr>`,
  )
  const name = properties.name ?? properties.title
  const crs = place.isChosen ? place.system.uri : undefined
  const file = links.find(({ type }) => type === GEOJSON.types[0])?.href
  const own = { item: featureUrl(base, collection, id), crs: formSystem(place.system) }
  const view = html`<div class="view">!${mapOf(base, { label: 'Map of this feature', baseMap, own })}</div>`
  return {
    base,
    title: typeof name === 'string' && name !== '' ? name : `${collection.title}: ${id}`,
    language: local.language,
    trail: [
      ...trailTo(base, collection),
      { name: 'Features', href: pageAt(`${collectionUrl(base, collection)}/items`, crs) },
      { name: id },
    ],
    links,
    script: 'item',
    main: html`<p id="status" role="status" aria-live="polite"></p>
      <div class="beside">
        <div>
          <div class="scroll" id="shown" tabindex="0" role="region" aria-label="Properties"><table><tbody>!${rows.join('')}</tbody></table></div>
          !${placeSection(collection, place, file)}
          !${capabilities?.canUpdate || capabilities?.canRemove ? editor(collection, place.system) : ''}
        </div>
        <div>!${capabilities?.canUpdate && isOfMaps(place.system) ? withTools(base, collection, view) : view}</div>
      </div>
      <p><small>${attribution ?? ''}</small></p>`,
  }
}

/** Returns the fields of what a client may set. */
function fieldsOf(collection: Collection, system: CoordinateSystem): string {
  const { properties, capabilities } = collection
  const fields = properties.filter(({ name }) => capabilities!.columns.has(name)).map(field)
  return fields.join('') + placeFields(collection, system)
}

/** Returns the URI of the system of a form, for its script; undefined if it is that of the map. */
const formSystem = (system: CoordinateSystem) => (isOfMaps(system) ? undefined : system.uri)

/** Returns the row of the API key; change.js shows it. */
const keyRow = () => html`<form id="key-row" hidden>
        <label for="key">API key</label>
        <input id="key" type="password" autocomplete="off" spellcheck="false" placeholder="tessera_…">
        <small>It is kept in this browser only.</small>
      </form>`

/** Returns the form of a new feature; adding.js shows it. */
function adder(collection: Collection, system: CoordinateSystem): string {
  const { idFrom, idColumn } = collection
  const id =
    idFrom === 'server' || !idColumn
      ? ''
      : html`<label>${idColumn.name} <input data-id="${idColumn.kind}" type="text"!${idFrom === 'client' ? ' required' : ''}></label>`
  return html`<div id="editor" hidden>
      <form id="form" novalidate aria-label="New feature">
        <p id="problem" role="alert" hidden></p>
        !${id}!${fieldsOf(collection, system)}
        <p class="buttons"><button type="submit">Save</button> <button type="button" id="cancel" class="secondary">Cancel</button></p>
      </form>
      !${keyRow()}
    </div>`
}

/** Returns the form. It is hidden until item.js shows it, because only a script can send a patch. */
function editor(collection: Collection, system: CoordinateSystem): string {
  const { canUpdate, canRemove } = collection.capabilities!
  return html`<div id="editor" hidden>
      <p class="buttons" id="actions">
        !${canUpdate ? '<button type="button" id="edit">Edit</button>' : ''}
        !${canRemove ? '<button type="button" id="delete" class="danger">Delete</button>' : ''}
      </p>
      <form id="form" hidden novalidate>
        <p id="problem" role="alert" hidden></p>
        !${fieldsOf(collection, system)}
        <p class="buttons"><button type="submit">Save</button> <button type="button" id="cancel" class="secondary">Cancel</button></p>
      </form>
      <section id="conflict" aria-label="Both versions" hidden></section>
      !${keyRow()}
      <dialog id="confirm" aria-labelledby="question">
        <form method="dialog">
          <p id="question">Delete this feature for good?</p>
          <p class="buttons"><button value="delete" class="danger">Delete</button> <button value="keep" class="secondary" autofocus>Keep it</button></p>
        </form>
      </dialog>
    </div>`
}

/** Returns the field of a column. An empty field means null; `data-kind` determines how item.js parses other texts. */
function field(column: Column): string {
  const { name, kind, isNullable, labels, maxLength } = column
  const shown = html`<label>${name}`
  const data = html`name="${name}" data-kind="${column.isArray ? 'json' : kind}"`
  const required = isNullable ? '' : ' required'
  if (labels || kind === 'boolean') {
    const options = ['', ...(labels ?? ['true', 'false'])].map(
      (label) => html`<option value="${label}">${label}</option>`,
    )
    return html`!${shown} <select !${data}!${required}>!${options.join('')}</select></label>`
  }
  if (kind === 'json' || column.isArray)
    return html`!${shown} <textarea !${data}!${required} rows="3" spellcheck="false"></textarea></label>`
  const mode = kind === 'integer' ? ' inputmode="numeric"' : kind === 'number' ? ' inputmode="decimal"' : ''
  const length = maxLength ? html` maxlength="${maxLength}"` : ''
  const hint =
    kind === 'timestamp' || kind === 'uuid' ? html` placeholder="${describeValue(column).example}"` : ''
  return html`!${shown} <input type="${kind === 'date' ? 'date' : 'text'}" !${data}!${required}!${mode}!${length}!${hint}></label>`
}
