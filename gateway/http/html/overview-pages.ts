// Owns the pages that give an overview: landing page, conformance, collections, and one collection.

import { html } from 'ghtml'
import { type Collection, distributionOf } from '../../features/collections/collection.ts'
import type { Extent } from '../../features/collections/extent.ts'
import type { PropertySchema, Schema } from '../../features/collections/schema.ts'
import type { Link } from '../../features/formats/format.ts'
import type { Column } from '../../features/values/column.ts'
import { collectionUrl } from '../feature-response.ts'
import type { Page } from './layout.ts'
import type { Local } from './local.ts'
import { type BaseMap, exploringMap, type Shown } from './map.ts'
import { type FactColumn, factTable, scrolling } from './table.ts'

/** Features that the first HTML page shows: more than JSON's default of 10, which would be few for a map. */
export const FIRST_LIMIT = 100

export const itemsPageUrl = (base: string, collection: Collection) =>
  `${collectionUrl(base, collection)}/items?f=html&limit=${FIRST_LIMIT}`

const NO_COLLECTIONS =
  'There are no collections yet: <code>tessera import</code> creates one, and every table with a geometry column is one.'

const list = (base: string, collections: readonly Collection[]) => {
  const entries = collections.map(
    (collection) => html`<li>
        <h2><a href="${collectionUrl(base, collection)}">${collection.title}</a></h2>
        <p>${collection.description ?? ''}</p>
        <p><a href="${itemsPageUrl(base, collection)}">Features on a map<span class="unseen"> of ${collection.title}</span></a></p>
      </li>`,
  )
  return entries.length > 0
    ? html`<ul class="cards">!${entries.join('')}</ul>`
    : html`<p>!${NO_COLLECTIONS}</p>`
}

export const landingPage = (
  base: string,
  collections: readonly Collection[],
  links: readonly Link[],
): Page => ({
  base,
  title: 'Tessera',
  trail: [{ name: 'Start' }],
  links,
  main: html`<p>PostGIS tables as OGC API Features: on maps and in tables here, as GeoJSON for programs.
      <a href="${base}/api.html">The documentation of the API</a> describes how to use it.</p>
    <p><a class="button" href="${base}/map">All on one map</a></p>
    !${list(base, collections)}`,
})

export const conformancePage = (
  base: string,
  conformsTo: readonly string[],
  links: readonly Link[],
): Page => ({
  base,
  title: 'Conformance',
  trail: [{ name: 'Start', href: `${base}/` }, { name: 'Conformance' }],
  links,
  main: html`<p>The classes of standards that this API conforms to:</p>
    <ul>!${conformsTo.map((uri) => html`<li><code>${uri}</code></li>`).join('')}</ul>`,
})

export type ShownFunction = {
  readonly name: string
  readonly description: string
  readonly arguments: readonly { readonly title: string; readonly type: readonly string[] }[]
  readonly returns: readonly string[]
}

export function functionsPage(
  base: string,
  functions: readonly ShownFunction[],
  links: readonly Link[],
): Page {
  const call = ({ name, arguments: given }: ShownFunction) =>
    `${name}(${given.map(({ title, type }) => `${title}: ${type.join(' or ')}`).join(', ')})`
  const columns: FactColumn<ShownFunction>[] = [
    ['Function', (shown) => html`<code>${call(shown)}</code>`],
    ['Returns', ({ returns }) => html`${returns.join(' or ')}`],
    ['Meaning', ({ description }) => html`${description}`],
  ]
  return {
    base,
    title: 'Functions',
    trail: [{ name: 'Start', href: `${base}/` }, { name: 'Functions' }],
    links,
    main: html`<p>Filters can call these functions, besides the operators of CQL2:</p>
      !${scrolling('Functions', factTable(functions, columns, 'There are none.'))}`,
  }
}

export const collectionsPage = (
  base: string,
  collections: readonly Collection[],
  links: readonly Link[],
): Page => ({
  base,
  title: 'Collections',
  trail: [{ name: 'Start', href: `${base}/` }, { name: 'Collections' }],
  links,
  main: list(base, collections),
})

export const trailTo = (base: string, collection: Collection) => [
  { name: 'Start', href: `${base}/` },
  { name: 'Collections', href: `${base}/collections?f=html` },
  { name: collection.title, href: `${collectionUrl(base, collection)}?f=html` },
]

function keptBy(distribution: ReturnType<typeof distributionOf>): string | undefined {
  switch (distribution?.by) {
    case 'cell':
      return `by cell, at level ${distribution.level}`
    case 'column':
      return `by ${distribution.column}`
    case 'reference':
      return 'on all nodes'
    default:
      return undefined
  }
}

/** Names of the numbers of an extent, without or with heights. */
const SIDES: Readonly<Record<number, string>> = {
  4: 'west, south, east, north',
  6: 'west, south, low, east, north, high',
}

export function collectionPage(
  base: string,
  collection: Collection,
  extent: Extent,
  links: readonly Link[],
  baseMap: BaseMap | undefined,
  local: Local,
): Page {
  const { bbox, interval } = extent
  const { title, description, license, attribution, properties, geometry, capabilities, id } = collection
  const facts: [string, string | undefined][] = [
    ['Identifier', id],
    ['Geometry', geometry.type],
    [
      'Extent',
      bbox
        ? `${bbox.map((side) => local.value(side, 'number')).join(' · ')} (${SIDES[bbox.length]} in degrees)`
        : 'none: no feature with coordinates is known',
    ],
    ['Coordinate systems', collection.systems.map(({ uri }) => uri).join(', ')],
    ['Stored in', collection.storageSystem?.uri],
    ['Time', interval?.map((side) => (side === null ? 'open' : local.value(side, 'timestamp'))).join(' to ')],
    ['Licence', license],
    ['Attribution', attribution],
    ['Distribution', keptBy(distributionOf(collection))],
    ['Changes', capabilities ? 'features can be changed' : 'features cannot be changed'],
  ]
  const shownFacts = facts
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)
  const columns: FactColumn<Column>[] = [
    ['Name', ({ name }) => html`${name}`],
    ['Type', ({ type }) => html`${type}`],
    ['Null', ({ isNullable }) => (isNullable ? '' : 'never null')],
    ['Meaning', ({ description: note }) => html`${note ?? ''}`],
  ]
  return {
    base,
    title,
    trail: trailTo(base, collection).map((step, index) => (index === 2 ? { name: step.name } : step)),
    links,
    language: local.language,
    script: 'explore',
    main: html`<p>${description ?? ''}</p>
      <p><a class="button" href="${itemsPageUrl(base, collection)}">Features on a map</a></p>
      <div class="beside">
        <dl>!${shownFacts.join('')}</dl>
        !${exploringMap(base, { label: `${title} on a map`, baseMap, shown: [{ collection, extent }] })}
      </div>
      <h2>Properties</h2>
      !${scrolling('Properties', factTable(properties, columns, 'Features have none besides their geometry.'))}`,
  }
}

/** Returns the map of all collections. */
export const mapPage = (
  base: string,
  shown: readonly Shown[],
  links: readonly Link[],
  baseMap: BaseMap | undefined,
  local: Local,
): Page => ({
  base,
  title: 'Map',
  language: local.language,
  trail: [{ name: 'Start', href: `${base}/` }, { name: 'Map' }],
  links,
  script: 'explore',
  main:
    shown.length > 0
      ? exploringMap(base, { label: 'All collections on a map', baseMap, shown })
      : html`<p class="none">!${NO_COLLECTIONS}</p>`,
})

/** Returns a schema as a table, with a row for each property. */
export function schemaPage({
  base,
  collection,
  title,
  schema,
  links,
}: {
  readonly base: string
  readonly collection: Collection
  readonly title: string
  readonly schema: Schema
  readonly links: readonly Link[]
}): Page {
  const kindOf = ({ type, format }: PropertySchema) => [type, format].flat().filter(Boolean).join(', ')
  const limitsOf = ({
    title: _title,
    description: _description,
    type: _type,
    format: _format,
    'x-ogc-propertySeq': _sequence,
    ...limits
  }: PropertySchema) => Object.entries(limits).map(([limit, value]) => `${limit}: ${JSON.stringify(value)}`)
  const columns: FactColumn<[string, PropertySchema]>[] = [
    ['Name', ([name]) => html`${name}`],
    ['Type', ([, property]) => html`${kindOf(property)}`],
    ['Limits', ([, property]) => html`${limitsOf(property).join(', ')}`],
    [
      'Meaning',
      ([, { title: label, description: note }]) => html`${[label, note].filter(Boolean).join(': ')}`,
    ],
  ]
  return {
    base,
    title: `${collection.title}: ${title}`,
    trail: [...trailTo(base, collection), { name: title }],
    links,
    main: scrolling('Properties', factTable(Object.entries(schema.properties), columns, 'There are none.')),
  }
}
