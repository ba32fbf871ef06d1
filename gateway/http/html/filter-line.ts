// Owns the line that filters a page of features, and the page that shows it if its filter is faulty.

import { html } from 'ghtml'
import type { GatewayError } from '../../errors.ts'
import type { Collection } from '../../features/collections/collection.ts'
import { CONSTRUCTORS, IDENTIFIER, KEYWORDS, NAMED_OPERATORS } from '../../features/filter/expression.ts'
import { type FilterParameters, filterAsLine } from '../../features/filter/filter.ts'
import { printText } from '../../features/filter/print.ts'
import { collectionUrl } from '../feature-response.ts'
import { assetsAt } from './assets.ts'
import type { Page } from './layout.ts'
import { trailTo } from './overview-pages.ts'

export type FilterLine = {
  /** URL of the gateway, without a slash at its end. */
  readonly base: string
  readonly collection: Collection
  /** The parameters of the address, and those of the filter among them. */
  readonly address: URLSearchParams
  readonly parameters: FilterParameters
}

/** Parameters that say where in the result a page begins: they mean nothing in another result. */
const POSITION = ['cursor', 'offset']

/** Returns the address of the first page without some of its parameters, from the page that is open. */
export function addressWithout(address: URLSearchParams, ...names: readonly string[]): string {
  const kept = new URLSearchParams(address)
  for (const name of [...POSITION, ...names]) kept.delete(name)
  return `?${kept}`
}

/** The words of the language, from which filter.js knows what to complete and which names need quotes. */
const LANGUAGE = JSON.stringify({
  identifier: IDENTIFIER,
  words: [...KEYWORDS, ...CONSTRUCTORS],
  operators: [...NAMED_OPERATORS.keys()].map((name) => name.toUpperCase()),
})

/**
 * Returns the form with the filter of the address. Without scripts it is a form like any other: a browser sends it as the
 * query of the address that is open.
 */
export function filterLine({ base, collection, address, parameters }: FilterLine, fault?: GatewayError) {
  const { filter = '' } = parameters
  const line = fault ? filter.replace(/[\r\n]/g, ' ') : filterAsLine(parameters)
  // A filter is shown as text, in whichever language it was sent; only faulty JSON stays as it is.
  const isJson = fault && parameters['filter-lang'] === 'cql2-json'
  const kept = new URLSearchParams(addressWithout(address, 'filter', ...(isJson ? [] : ['filter-lang'])))
  const hidden = [...kept].map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`)
  const position = typeof fault?.facts.position === 'number' ? fault.facts.position : undefined
  const invalid = fault
    ? html` aria-invalid="true" autofocus data-position="${position ?? filter.length}"`
    : ''
  const url = collectionUrl(base, collection)
  return html`<form id="filter-line" role="search" data-items="${url}/items" data-queryables="${url}/queryables" data-functions="${base}/functions" data-language="${LANGUAGE}">
      !${hidden.join('')}
      <label for="filter">Filter</label>
      <div class="line">
        <div><input id="filter" name="filter" value="${line}" autocomplete="off" autocapitalize="off" autocorrect="off" spellcheck="false" enterkeyhint="search" aria-describedby="!${fault ? 'filter-fault ' : ''}filter-help"!${invalid}></div>
        <button type="submit">Apply</button>
      </div>
      !${fault ? html`<div id="filter-fault" class="fault">!${position === undefined ? '' : markedAt(filter, position)}<p>${fault.message}</p></div>` : ''}
      <small id="filter-help">A condition in CQL2, such as <code>${exampleFor(collection)}</code>, with these <a href="${url}/queryables?f=html">properties</a> and <a href="${base}/functions?f=html">functions</a>. An empty one shows all features.</small>
    </form>
    <script type="module" src="${assetsAt(base)}/filter.js"></script>`
}

/** Returns the filter with a mark on the word, or the character, at a position. It is empty where the filter ends. */
function markedAt(filter: string, position: number): string {
  const rest = filter.slice(position)
  const [marked = ''] = /^(?:[\p{L}\p{N}_]+|.)?/su.exec(rest) ?? []
  return html`<p aria-hidden="true"><code>${filter.slice(0, position)}<mark>${marked}</mark>${rest.slice(marked.length)}</code></p>`
}

function exampleFor({ properties, geometry }: Collection): string {
  const text = properties.find(({ kind, isArray }) => kind === 'string' && !isArray)
  return printText(
    text
      ? { op: 'like', args: [{ property: text.name }, 'A%'] }
      : { op: 's_intersects', args: [{ property: geometry.column }, { bbox: [5, 45, 11, 48] }] },
  )
}

/** Returns the page of features for a filter that means nothing: it has the line, with what is wrong below it. */
export function faultyFilterPage(line: FilterLine, fault: GatewayError): Page {
  const { base, collection } = line
  return {
    base,
    title: collection.title,
    trail: [...trailTo(base, collection), { name: 'Features' }],
    links: [],
    main: filterLine(line, fault),
  }
}
