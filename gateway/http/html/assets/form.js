// Owns the form of a feature: its fields, what was entered in them, and the faults that the gateway finds in them.

import { textOf } from './json.js'

/** `place` has the GeoJSON that is sent. The map writes it, and so do the fields of the coordinates of a point. */
const [form, problem, place] = ['form', 'problem', 'place'].map((id) => document.getElementById(id))
const axes = [...document.querySelectorAll('[data-axis]')]
const fields = () => [...form.querySelectorAll('[data-kind]')]

/** Returns the JSON value of a field: null if it is empty, its text if it has no other kind or cannot be parsed. */
export function parseField({ value, dataset: { kind } }) {
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

/** Fills the form with a feature. */
export function fillForm({ properties, geometry }) {
  const show = (field, text) => {
    field.value = text
    // The browser may show another text than it was given. A field that still has that text was not edited.
    field.dataset.shown = field.value
    field.removeAttribute('aria-invalid')
  }
  for (const field of fields()) show(field, textOf(properties[field.name]))
  if (place) show(place, textOf(geometry))
  showCoordinates()
  for (const axis of axes) axis.removeAttribute('aria-invalid')
  problem.hidden = true
}

const isEdited = (field) => field.value !== field.dataset.shown

/** Returns the properties that were edited. */
export const editedProperties = () =>
  Object.fromEntries(
    fields()
      .filter(isEdited)
      .map((field) => [field.name, parseField(field)]),
  )

/** Returns the geometry that was entered; undefined if it was not edited. */
export const editedGeometry = () => (place && isEdited(place) ? enteredGeometry() : undefined)

/** Returns the geometry as the form has it. */
export const enteredGeometry = () => parseField({ value: place.value.trim(), dataset: { kind: 'json' } })

/** Writes a geometry into the form. */
export function setGeometry(geometry) {
  place.value = textOf(geometry)
  showCoordinates()
}

/** Shows the coordinates of the geometry in the form. */
function showCoordinates() {
  for (const [index, axis] of axes.entries()) axis.value = textOf(enteredGeometry()?.coordinates?.[index])
}

/** Makes the geometry in the form of the coordinates. What is none is left to the server, as in other fields. */
function takeCoordinates() {
  const isEmpty = axes.every(({ value }) => value.trim() === '')
  place.value = textOf(isEmpty ? null : { type: 'Point', coordinates: axes.map(parseCoordinate) })
}

/** Returns the number in a field, also with the comma of other languages; its text if it is none. */
function parseCoordinate({ value }) {
  const number = value.trim() === '' ? Number.NaN : Number(value.trim().replace(',', '.'))
  return Number.isFinite(number) ? number : value
}

place?.addEventListener('input', showCoordinates)
for (const axis of axes) {
  axis.addEventListener('input', takeCoordinates)
  // The map follows the field of the place.
  axis.addEventListener('change', () => place.dispatchEvent(new Event('change')))
}

/** Shows why a change was refused, at the fields that are at fault. @param errors faults with their JSON pointers */
export function tellProblem({ message, errors = [] }) {
  problem.hidden = false
  problem.textContent = message
  const mark = (field, isFaulty) => {
    field.removeAttribute('aria-invalid')
    if (isFaulty) field.setAttribute('aria-invalid', 'true')
  }
  for (const field of fields()) {
    const pointer = `/properties/${field.name.replaceAll('~', '~0').replaceAll('/', '~1')}`
    mark(
      field,
      errors.some((error) => error.pointer === pointer),
    )
  }
  const isPlaceFaulty = errors.some(({ pointer }) => pointer?.startsWith('/geometry'))
  if (place) for (const field of [place, ...axes]) mark(field, isPlaceFaulty)
  if (place && isPlaceFaulty) place.closest('details').open = true
  if (errors.length > 0)
    problem.textContent = errors
      .map(({ pointer, detail }) => `${pointer.replace(/^\/properties\/|^\//, '')} ${detail}.`)
      .join(' ')
}
