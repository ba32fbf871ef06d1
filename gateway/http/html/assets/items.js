// Owns a page of features: its map has all that meet the conditions, and its table those of the visible area.

import { letAdd } from './adding.js'
import { fragment } from './address.js'
import { letChoose } from './choosing.js'
import { withToken } from './consistency.js'
import { follow } from './following.js'
import { readAnswer, shownText } from './json.js'
import { addLayers } from './layers.js'
import { boundsOf, boxIn, data, fit, isByPerson, openMap } from './map.js'
import { itemAddress, system } from './page-address.js'
import { letChooseTime } from './time.js'

const columns = JSON.parse(data.columns)
const status = document.getElementById('status')
const body = document.querySelector('#features tbody')
const next = document.getElementById('next')
const everywhere = document.getElementById('everywhere')
const downloads = document.querySelectorAll('#downloads a')
const [found, none, again] = ['found', 'none', 'again'].map((id) => document.getElementById(id))
/** Moves of the map that follow one another within this time load features only once. */
const SETTLE_MS = 200

/** Returns the query of an address without its format. */
const queryOf = (address) => {
  const query = new URL(address, location).searchParams
  query.delete('f')
  return query
}
const addressOf = (query, format) => {
  const address = new URL(data.items, location)
  address.search = query
  address.searchParams.set('f', format)
  return address
}
/** Returns the address of a file with all features of the query, which has the format of another address. */
function fileAddress(address, query) {
  const file = addressOf(query, '')
  for (const name of ['cursor', 'offset']) file.searchParams.delete(name)
  const { searchParams } = new URL(address)
  for (const name of ['f', 'limit', 'csv-bom'])
    if (searchParams.has(name)) file.searchParams.set(name, searchParams.get(name))
  return file
}
const count = (number) => shownText(number, 'integer')

function rowOf({ id, properties }) {
  const row = document.createElement('tr')
  const head = row.appendChild(document.createElement('th'))
  head.scope = 'row'
  if (id !== undefined) {
    const link = head.appendChild(document.createElement('a'))
    link.href = itemAddress(data.items, id)
    link.textContent = id
  }
  for (const [name, kind] of columns)
    row.appendChild(document.createElement('td')).textContent = shownText(properties[name], kind)
  return row
}

let asking = new AbortController()
/** The query whose features the table shows: at first those that the server has sent. */
let shown = String(queryOf(location))

/** Returns the query without the system of its coordinates: a map needs degrees. */
const inDegrees = (query) => {
  const degrees = new URLSearchParams(query)
  degrees.delete('crs')
  return degrees
}
/** Returns the query of a page for people, from that of its JSON. */
const asPage = (query) => {
  query.delete('skipGeometry')
  if (system) query.set('crs', system)
  return query
}

/** Parameters that select no features: tiles have all features of the others. */
const NOT_SELECTING = [
  ...['f', 'limit', 'cursor', 'offset', 'sortby', 'properties', 'skipGeometry', 'csv-bom', 'explain'],
  ...['crs', 'bbox', 'bbox-crs'],
]
/** Returns the conditions that features of this page meet, wherever they are. */
function selection() {
  const conditions = queryOf(location)
  for (const name of NOT_SELECTING) conditions.delete(name)
  return conditions
}

/**
 * Loads and shows the features of a query; a later call aborts an earlier one.
 * @param hasGeometry true to return where they are
 */
async function show(query, hasGeometry = false) {
  asking.abort()
  asking = new AbortController()
  const { signal } = asking
  found.ariaBusy = true
  try {
    const address = addressOf(inDegrees(query), 'json')
    if (!hasGeometry) address.searchParams.set('skipGeometry', 'true')
    const page = await readAnswer(await fetch(address, { signal, headers: withToken() }))
    if (signal.aborted) return
    const isFirst = String(query) === shown
    shown = String(query)
    body.replaceChildren(...page.features.map(rowOf))
    found.hidden = page.features.length === 0
    none.hidden = !found.hidden
    if (!isFirst)
      none.textContent = query.has('bbox')
        ? 'No feature is in this area.'
        : 'No feature meets these conditions.'
    again.hidden = true
    const following = page.links.find(({ rel }) => rel === 'next')
    next.hidden = !following
    if (following) next.href = addressOf(asPage(queryOf(following.href)), 'html')
    everywhere.hidden = !query.has('bbox')
    for (const link of downloads) link.href = fileAddress(link.href, query)
    const { numberReturned, numberMatched } = page
    const rest = !following ? '' : numberMatched === undefined ? ' and more' : ` of ${count(numberMatched)}`
    const noun = numberReturned === 1 ? 'feature' : 'features'
    status.textContent = `${count(numberReturned)} ${noun}${rest}${query.has('bbox') ? ' on this map' : ''}.`
    found.ariaBusy = false
    return page.features
  } catch (error) {
    if (signal.aborted) return
    // A table of other features than the map has would mislead.
    found.hidden ||= String(query) !== shown
    none.hidden ||= String(query) !== shown
    next.hidden ||= String(query) !== shown
    found.ariaBusy = false
    again.hidden = false
    again.onclick = () => show(query)
    const reason = error instanceof TypeError ? 'the gateway does not answer' : error.message
    status.textContent = `The features could not be read: ${reason.replace(/\.$/, '')}.`
  }
}

const query = queryOf(location)
const box = query.has('bbox-crs') ? undefined : boxIn(query.get('bbox'))
const { map, maplibre, hasView } = await openMap(box ?? boxIn(data.bounds))

const layers = map ? addLayers(map, selection) : []
const choice = map && letChoose(map, layers, (key) => markRow(key))

/** True while the form of a new feature is in the place of the table. */
let isAdding = false
const table = body.closest('.listed')
letAdd(map, data.items, {
  opened() {
    isAdding = true
    table.hidden = true
    choice?.setActive(false)
  },
  closed() {
    isAdding = false
    table.hidden = false
    choice?.setActive(true)
  },
  created() {
    for (const layer of layers) layer.refresh()
    show(new URLSearchParams(shown))
  },
})

if (map)
  letChooseTime(new URL(location).searchParams.get('datetime'), (interval) => {
    const chosen = firstPage()
    if (interval === undefined) chosen.delete('datetime')
    else chosen.set('datetime', interval)
    open(chosen)
    for (const layer of layers) layer.select()
    show(chosen)
  })

// Features that are selected may be in one corner of where the collection's are.
const isSearched = !hasView && !box && selection().size > 0
const features = await show(query, isSearched)
const bounds = isSearched && boundsOf(features ?? [])
if (bounds) fit(map, bounds)

let settling
map?.on('moveend', (event) => {
  // The map also moves when it is fitted to the first page.
  if (!isByPerson(event) || isAdding) return
  clearTimeout(settling)
  settling = setTimeout(() => show(visibleQuery()), SETTLE_MS)
})

/** Returns the query of the first page of the address. */
function firstPage() {
  const first = queryOf(location)
  for (const name of ['cursor', 'offset']) first.delete(name)
  return first
}

/** Makes a query that of the address. */
const open = (wanted) => history.replaceState(null, '', addressOf(wanted, 'html') + fragment())

function visibleQuery() {
  const visible = firstPage()
  visible.delete('bbox-crs')
  const view = map.getBounds()
  const isWorld = view.getEast() - view.getWest() >= 360
  const wrap = (longitude) => new maplibre.LngLat(longitude, 0).wrap().lng.toFixed(6)
  const [west, east] = isWorld ? [-180, 180] : [wrap(view.getWest()), wrap(view.getEast())]
  visible.set('bbox', [west, view.getSouth().toFixed(6), east, view.getNorth().toFixed(6)].join())
  open(visible)
  return visible
}

/** Marks the row of a feature in the table. @param key undefined for none */
function markRow(key) {
  const wanted = key === undefined ? undefined : String(key)
  for (const row of body.rows) row.classList.toggle('chosen', row.cells[0].textContent.trim() === wanted)
}

/** Marks the feature of a row on the map. */
function markFeature({ target }) {
  const id = target.closest?.('tr')?.cells[0].textContent.trim()
  for (const layer of layers) layer.hover(id ? (layer.isNumbered ? Number(id) : id) : undefined)
}
body.addEventListener('mouseover', markFeature)
body.addEventListener('focusin', markFeature)
body.addEventListener('mouseleave', () => markFeature({ target: body }))

if (map) follow(map, layers)
