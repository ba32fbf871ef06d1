// Owns the page of a feature: its map, and the form that changes it without overwriting changes of others.

import { hideConflict, showConflict } from './conflict.js'
import { keepToken, withToken } from './consistency.js'
import { drawFeatures } from './feature-layer.js'
import { parseJson, shownText, textOf } from './json.js'
import { keepKey, storedKey, withKey } from './key.js'
import { boundsOf, data, fit, openMap } from './map.js'

const find = (id) => document.getElementById(id)
const [status, editor, form, problem] = ['status', 'editor', 'form', 'problem'].map(find)
const [keyRow, keyInput, confirmation] = ['key-row', 'key', 'confirm'].map(find)

let feature
let etag

async function load(headers = withToken()) {
  const response = await fetch(`${data.item}?f=json`, { cache: 'no-store', headers })
  const answer = parseJson(await response.text())
  if (!response.ok) throw new Error(answer.detail)
  take(answer, response)
}

/** Keeps and shows the feature as the server returned it. */
function take(answer, response) {
  feature = answer
  etag = response.headers.get('etag')
  for (const cell of document.querySelectorAll('[data-property]'))
    cell.textContent = shownText(feature.properties[cell.dataset.property], cell.dataset.kind)
  const name = feature.properties.name ?? feature.properties.title
  if (typeof name === 'string' && name !== '') document.querySelector('h1').textContent = name
}

/** Returns the JSON value of a field: null if it is empty, its text if it has no other kind or cannot be parsed. */
function parseField({ value, dataset: { kind } }) {
  if (value === '') return null
  try {
    if (!['integer', 'number', 'boolean', 'json'].includes(kind)) return value
    const parsed = JSON.parse(value)
    // A number here would lose digits of this value. It is sent as text, which the server refuses, and not as another number.
    const isLost =
      kind === 'integer' ? !Number.isSafeInteger(parsed) : parsed === Infinity || parsed === -Infinity
    return isLost ? value : parsed
  } catch {
    // The error from the server explains which values are allowed.
    return value
  }
}

const fields = () => [...form.querySelectorAll('[data-kind]')]

function fill() {
  for (const field of fields()) {
    field.value = textOf(feature.properties[field.name])
    // The browser may show another text than it was given. A field that still has that text was not edited.
    field.dataset.shown = field.value
    field.removeAttribute('aria-invalid')
  }
  problem.hidden = true
}

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value)

/** Returns the merge patch that turns one value into another (RFC 7396); removed members are null in it. */
function patchBetween(before, after) {
  if (!isObject(before) || !isObject(after)) return after
  const patch = {}
  for (const name of Object.keys(before)) if (!(name in after)) patch[name] = null
  for (const [name, value] of Object.entries(after)) {
    if (JSON.stringify(value) !== JSON.stringify(before[name]))
      patch[name] = patchBetween(before[name], value)
  }
  return patch
}

/** Returns the feature as the form and the map have it. */
function entered() {
  const properties = { ...feature.properties }
  for (const field of fields())
    if (field.value !== field.dataset.shown) properties[field.name] = parseField(field)
  const [longitude, latitude] = feature.geometry?.coordinates ?? []
  const place = marker?.getLngLat()
  if (!place || (place.lng === longitude && place.lat === latitude))
    return { properties, geometry: feature.geometry }
  const { lng, lat } = place.wrap()
  const coordinates = [Number(lng.toFixed(7)), Number(lat.toFixed(7))]
  return { properties, geometry: { type: 'Point', coordinates } }
}

/** Returns the merge patch that makes of the feature what is wanted. */
function patchTo({ properties, geometry }) {
  const patch = {}
  const changed = patchBetween(feature.properties, { ...feature.properties, ...properties })
  if (Object.keys(changed).length > 0) patch.properties = changed
  // A geometry is replaced as a whole.
  if (geometry !== feature.geometry) patch.geometry = geometry
  return patch
}

async function change(method, body) {
  const key = keyInput.value.trim()
  if (key) keepKey(key)
  const response = await fetch(data.item, {
    method,
    headers: withToken({
      'if-match': etag,
      accept: 'application/geo+json, application/problem+json',
      ...withKey(key),
      ...(body ? { 'content-type': 'application/merge-patch+json' } : {}),
    }),
    ...(body ? { body: JSON.stringify(body) } : {}),
  })
  keepToken(response)
  const answer = response.status === 204 ? undefined : parseJson(await response.text())
  if (response.ok) return { answer, response }
  if (response.status === 401 || response.status === 403) {
    keyRow.hidden = false
    keyInput.focus()
  }
  throw Object.assign(new Error(answer.detail), { code: answer.code, errors: answer.errors ?? [] })
}

function tell({ code, message, errors = [] }) {
  problem.hidden = false
  problem.textContent = message
  for (const field of fields()) {
    const pointer = `/properties/${field.name.replaceAll('~', '~0').replaceAll('/', '~1')}`
    const fault = errors.find((error) => error.pointer === pointer)
    field.toggleAttribute('aria-invalid', false)
    if (fault) field.setAttribute('aria-invalid', 'true')
  }
  if (errors.length > 0)
    problem.textContent = errors
      .map(({ pointer, detail }) => `${pointer.replace(/^\/properties\//, '')} ${detail}.`)
      .join(' ')
  if (code !== 'feature-changed') return
  problem.textContent =
    'Somebody else has changed this feature since you opened it. Your changes were not saved. '
  const again = problem.appendChild(document.createElement('button'))
  again.type = 'button'
  again.textContent = 'Compare with what it is now'
  again.onclick = compare
}

/** Shows both versions, after somebody else has changed the feature. */
async function compare() {
  const versions = { before: feature, mine: entered() }
  try {
    // Our token does not cover changes of others, so this read must be strong.
    await load({ prefer: 'consistency=strong' })
  } catch (error) {
    return tell(error)
  }
  problem.hidden = true
  await draw()
  fill()
  form.hidden = true
  const kinds = new Map(
    [...document.querySelectorAll('[data-property]')].map(({ dataset }) => [dataset.property, dataset.kind]),
  )
  showConflict(kinds, { ...versions, theirs: feature }, save, () => setEditing(true))
}

/** Stores what is wanted of the feature. */
async function save(wanted) {
  try {
    const { answer, response } = await change('PATCH', patchTo(wanted))
    take(answer, response)
    setEditing(false)
    await draw()
    status.textContent = 'Saved.'
  } catch (error) {
    hideConflict()
    form.hidden = false
    tell(error)
  }
}

let marker
const { map, maplibre } = await openMap()

async function draw() {
  marker?.remove()
  marker = undefined
  drawFeatures(map, [feature])
  const bounds = boundsOf([feature])
  if (bounds) fit(map, bounds)
  if (form && !form.hidden) placeMarker()
}

function placeMarker() {
  if (!map || form.dataset.movable === undefined || !feature.geometry) return
  marker = new maplibre.Marker({ draggable: true }).setLngLat(feature.geometry.coordinates).addTo(map)
  const handle = marker.getElement()
  handle.tabIndex = 0
  handle.setAttribute('role', 'button')
  handle.setAttribute('aria-label', 'The point: arrow keys move it')
  handle.addEventListener('keydown', (event) => {
    const step = { ArrowLeft: [-4, 0], ArrowRight: [4, 0], ArrowUp: [0, -4], ArrowDown: [0, 4] }[event.key]
    if (!step) return
    event.preventDefault()
    event.stopPropagation()
    const { x, y } = map.project(marker.getLngLat())
    marker.setLngLat(map.unproject([x + step[0], y + step[1]]))
  })
}

function setEditing(isEditing) {
  hideConflict()
  form.hidden = !isEditing
  find('shown').hidden = isEditing
  find('actions').hidden = isEditing
  if (isEditing) {
    fill()
    placeMarker()
    fields()[0]?.focus()
  } else {
    marker?.remove()
    marker = undefined
  }
}

await load()
await draw()

if (editor) {
  editor.hidden = false
  keyInput.value = storedKey()
  keyRow.hidden = keyInput.value === ''
  keyRow.addEventListener('submit', (event) => event.preventDefault())
  find('edit')?.addEventListener('click', () => setEditing(true))
  if (location.hash === '#edit' && find('edit')) setEditing(true)
  find('cancel').addEventListener('click', () => setEditing(false))
  form.addEventListener('submit', async (event) => {
    event.preventDefault()
    await save(entered())
  })
  find('delete')?.addEventListener('click', () => confirmation.showModal())
  confirmation.addEventListener('close', async () => {
    if (confirmation.returnValue !== 'delete') return
    try {
      await change('DELETE')
      location.assign(`${data.item.replace(/\/[^/]*$/, '')}?f=html`)
    } catch (error) {
      if (form.hidden) setEditing(true)
      tell(error)
    }
  })
}
