// Owns the page of a feature: its map, and the form that changes it without overwriting changes of others.

import { sendChange, showKey } from './change.js'
import { hideConflict, showConflict } from './conflict.js'
import { withToken } from './consistency.js'
import { openDrawing } from './drawing.js'
import { drawFeatures } from './feature-layer.js'
import { editedGeometry, editedProperties, fillForm, tellProblem } from './form.js'
import { parseJson, shownText } from './json.js'
import { boundsOf, data, fit, openMap } from './map.js'
import { itemsAddress } from './page-address.js'
import { listPositions } from './positions.js'

const find = (id) => document.getElementById(id)
const [status, editor, form, problem, confirmation] = ['status', 'editor', 'form', 'problem', 'confirm'].map(
  find,
)
/** Address of the features of the collection. */
const items = data.item.replace(/\/[^/]*$/, '')

/** The feature in the coordinate system of the form; the same in degrees, which the map draws; and its entity tag. */
let feature
let drawn
let etag

async function load(headers = withToken()) {
  const [inDegrees, inSystem] = await Promise.all([
    read('', headers),
    data.crs && read(`&crs=${encodeURIComponent(data.crs)}`, headers),
  ])
  take(inSystem ?? inDegrees, inDegrees.answer)
}

async function read(query, headers) {
  const response = await fetch(`${data.item}?f=json${query}`, { cache: 'no-store', headers })
  const answer = parseJson(await response.text())
  if (!response.ok) throw new Error(answer.detail)
  return { answer, response }
}

/** Keeps and shows the feature as the server returned it. @param inDegrees the same for the map */
function take({ answer, response }, inDegrees = answer) {
  feature = answer
  drawn = inDegrees
  etag = response.headers.get('etag')
  for (const cell of document.querySelectorAll('[data-property]'))
    cell.textContent = shownText(feature.properties[cell.dataset.property], cell.dataset.kind)
  const name = feature.properties.name ?? feature.properties.title
  if (typeof name === 'string' && name !== '') document.querySelector('h1').textContent = name
  showPositions()
}

/** Shows the coordinates of the feature; a page that has too many of them has no table. */
function showPositions() {
  const table = find('positions')
  if (!table) return
  const { head, rows } = listPositions(feature.geometry, JSON.parse(table.dataset.axes))
  const rowOf = (name, texts) => {
    const row = document.createElement('tr')
    for (const text of texts) row.appendChild(document.createElement(name)).textContent = text
    return row
  }
  table.tHead.replaceChildren(rowOf('th', head))
  for (const cell of table.tHead.rows[0].cells) cell.scope = 'col'
  table.tBodies[0].replaceChildren(...rows.map((row) => rowOf('td', row)))
  find('listed').hidden = rows.length === 0
  find('nowhere').hidden = rows.length > 0
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

/** Returns the feature as the form has it. */
const entered = () => {
  const geometry = editedGeometry()
  return {
    properties: { ...feature.properties, ...editedProperties() },
    geometry: geometry === undefined ? feature.geometry : geometry,
  }
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

const change = (method, body) =>
  sendChange(data.item, method, {
    headers: { 'if-match': etag },
    type: 'application/merge-patch+json',
    body,
  })

/** @param wanted what was not saved */
function tell(error, wanted) {
  tellProblem(error)
  if (error.code !== 'feature-changed') return
  problem.textContent =
    'Somebody else has changed this feature since you opened it. Your changes were not saved. '
  const again = problem.appendChild(document.createElement('button'))
  again.type = 'button'
  again.textContent = 'Compare with what it is now'
  again.onclick = () => compare(wanted)
}

/** Shows both versions, after somebody else has changed the feature. */
async function compare({ properties, geometry }) {
  const mine = { properties: { ...feature.properties, ...properties }, geometry }
  const before = feature
  try {
    // Our token does not cover changes of others, so this read must be strong.
    await load({ prefer: 'consistency=strong' })
  } catch (error) {
    return tell(error, mine)
  }
  endDrawing()
  fillForm(feature)
  form.hidden = true
  draw()
  if (!data.crs && JSON.stringify(mine.geometry) !== JSON.stringify(feature.geometry))
    drawFeatures(map, [{ type: 'Feature', properties: {}, geometry: mine.geometry }], 1)
  const kinds = new Map(
    [...document.querySelectorAll('[data-property]')].map(({ dataset }) => [dataset.property, dataset.kind]),
  )
  showConflict(kinds, { before, mine, theirs: feature }, save, () => setEditing(true))
}

/** Stores what is wanted of the feature. */
async function save(wanted) {
  try {
    const changed = await change('PATCH', patchTo(wanted))
    // The answer is in degrees.
    if (data.crs) await load()
    else take(changed)
    setEditing(false)
    status.textContent = 'Saved.'
  } catch (error) {
    hideConflict()
    form.hidden = false
    tell(error, wanted)
  }
}

const { map } = await openMap()
/** The tools for drawing, one opening or closing after the other. */
let drawing = Promise.resolve()
let isDrawing = false

/** Shows the feature on the map, as it is stored. */
function draw() {
  drawFeatures(map, [drawn])
  drawFeatures(map, [], 1)
  const bounds = boundsOf([drawn])
  if (bounds) fit(map, bounds)
}

function startDrawing() {
  isDrawing = true
  drawing = drawing
    .then(() => openDrawing(map, items, String(feature.id)))
    .then((tools) => {
      // What is drawn takes the place of what is stored.
      if (tools && isDrawing) drawFeatures(map, [])
      return tools
    })
}

function endDrawing() {
  isDrawing = false
  drawing = drawing.then((tools) => tools?.close())
}

function setEditing(isEditing) {
  hideConflict()
  endDrawing()
  form.hidden = !isEditing
  find('shown').hidden = isEditing
  find('coordinates').hidden = isEditing
  find('actions').hidden = isEditing
  draw()
  if (!isEditing) return
  fillForm(feature)
  startDrawing()
  form.querySelector('[data-kind]')?.focus()
}

await load()
draw()

if (editor) {
  editor.hidden = false
  showKey()
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
      location.assign(itemsAddress(items))
    } catch (error) {
      if (form.hidden) setEditing(true)
      tell(error, entered())
    }
  })
}
