// Owns the pages that give an overview: landing page, conformance, collections, and one collection.

import { html } from 'ghtml'
import { type Collection, distributionOf } from '../../features/collections/collection.ts'
import type { Extent } from '../../features/collections/extent.ts'
import type { PropertySchema, Schema } from '../../features/collections/schema.ts'
import type { Link } from '../../features/formats/format.ts'
import type { Column } from '../../features/values/column.ts'
import { collectionUrl } from '../feature-response.ts'
import { mapOf, type Page } from './layout.ts'

/** Features that the first HTML page shows: more than JSON's default of 10, which would be few for a map. */
export const FIRST_LIMIT = 100

export const itemsPageUrl = (base: string, collection: Collection) =>
  `${collectionUrl(base, collection)}/items?f=html&limit=${FIRST_LIMIT}`

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
    : html`<p>There are no collections yet: <code>tessera import</code> creates one, and every table with a geometry column is one.</p>`
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
  const rows = functions.map(({ name, description, arguments: given, returns }) => {
    const call = `${name}(${given.map(({ title, type }) => `${title}: ${type.join(' or ')}`).join(', ')})`
    return html`<tr><th scope="row"><code>${call}</code></th><td>${returns.join(' or ')}</td><td>${description}</td></tr>`
  })
  return {
    base,
    title: 'Functions',
    trail: [{ name: 'Start', href: `${base}/` }, { name: 'Functions' }],
    links,
    main: html`<p>Filters can call these functions, besides the operators of CQL2:</p>
      <div class="scroll" tabindex="0" role="region" aria-label="Functions">
        <table><thead><tr><th scope="col">Function</th><th scope="col">Returns</th><th scope="col">Meaning</th></tr></thead>
        <tbody>!${rows.join('')}</tbody></table>
      </div>`,
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

export function collectionPage(
  base: string,
  collection: Collection,
  { bbox, interval }: Extent,
  links: readonly Link[],
  baseMap: string | undefined,
): Page {
  const { title, description, license, attribution, properties, geometry, capabilities, id } = collection
  const facts: [string, string | undefined][] = [
    ['Identifier', id],
    ['Geometry', geometry.type],
    ['Extent', bbox && `${bbox.join(', ')} (west, south, east, north in degrees)`],
    ['Coordinate systems', collection.systems.map(({ uri }) => uri).join(', ')],
    ['Stored in', collection.storageSystem?.uri],
    ['Time', interval?.map((side) => side ?? 'open').join(' to ')],
    ['Licence', license],
    ['Attribution', attribution],
    ['Distribution', keptBy(distributionOf(collection))],
    ['Changes', capabilities ? 'features can be changed' : 'features cannot be changed'],
  ]
  const shownFacts = facts
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)
  const describe = ({ name, type, isNullable, description: note }: Column) =>
    html`<tr><th scope="row">${name}</th><td>${type}</td><td>${isNullable ? '' : 'never null'}</td><td>${note ?? ''}</td></tr>`
  return {
    base,
    title,
    trail: trailTo(base, collection).map((step, index) => (index === 2 ? { name: step.name } : step)),
    links,
    script: 'extent',
    main: html`<p>${description ?? ''}</p>
      <p><a class="button" href="${itemsPageUrl(base, collection)}">Features on a map</a></p>
      <div class="beside">
        <dl>!${shownFacts.join('')}</dl>
        !${mapOf(base, { label: `Map of the extent of ${title}`, baseMap, bbox: bbox?.join() })}
      </div>
      <h2>Properties</h2>
      <div class="scroll" tabindex="0" role="region" aria-label="Properties">
        <table><thead><tr><th scope="col">Name</th><th scope="col">Type</th><th scope="col">Null</th><th scope="col">Meaning</th></tr></thead>
        <tbody>!${properties.map(describe).join('')}</tbody></table>
      </div>`,
  }
}

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
  const row = ([name, property]: [string, PropertySchema]) => {
    const { title: label, description: note, type, format, 'x-ogc-propertySeq': _, ...limits } = property
    const kind = [type, format].flat().filter(Boolean).join(', ')
    const shownLimits = Object.entries(limits).map(([limit, value]) => `${limit}: ${JSON.stringify(value)}`)
    return html`<tr><th scope="row">${name}</th><td>${kind}</td><td>${shownLimits.join(', ')}</td><td>${[label, note].filter(Boolean).join(': ')}</td></tr>`
  }
  return {
    base,
    title: `${collection.title}: ${title}`,
    trail: [...trailTo(base, collection), { name: title }],
    links,
    main: html`<div class="scroll" tabindex="0" role="region" aria-label="Properties">
      <table><thead><tr><th scope="col">Name</th><th scope="col">Type</th><th scope="col">Limits</th><th scope="col">Meaning</th></tr></thead>
      <tbody>!${Object.entries(schema.properties).map(row).join('')}</tbody></table>
    </div>`,
  }
}
