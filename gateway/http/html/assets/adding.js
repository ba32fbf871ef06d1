// Owns how a feature is added: its form next to the map, on which its place is drawn.

import { sendChange, showKey } from './change.js'
import { openDrawing } from './drawing.js'
import { editedProperties, enteredGeometry, fillForm, parseField, tellProblem } from './form.js'
import { itemAddress } from './page-address.js'

const find = (id) => document.getElementById(id)
const [add, editor, form, added] = ['add', 'editor', 'form', 'added'].map(find)

/** Returns a key for a change, so that it is made once if it has to be sent again. */
const newKey = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('')

/**
 * Lets a person add features, if the page has a form.
 * @param map undefined if there is none
 * @param items address of the features of the collection
 * @param events `opened` and `closed` with the form, `created` after a feature was stored
 */
export function letAdd(map, items, { opened, closed, created }) {
  if (!add) return
  let drawing = Promise.resolve()
  /** The last change that was sent, and its key. */
  let sent = {}

  function open() {
    add.hidden = true
    editor.hidden = false
    form.reset()
    fillForm({ properties: {}, geometry: null })
    showKey()
    added.textContent = ''
    opened()
    drawing = drawing.then(() => openDrawing(map, items))
    form.querySelector('input, select, textarea').focus()
  }

  function close() {
    drawing = drawing.then((tools) => tools?.close())
    editor.hidden = true
    add.hidden = false
    add.focus()
    closed()
  }

  async function save() {
    const id = form.querySelector('[data-id]')
    const body = {
      type: 'Feature',
      ...(id ? { id: parseField({ value: id.value, dataset: { kind: id.dataset.id } }) ?? undefined } : {}),
      properties: editedProperties(),
      geometry: enteredGeometry(),
    }
    const text = JSON.stringify(body)
    if (sent.text !== text) sent = { text, key: newKey() }
    try {
      const { response } = await sendChange(items, 'POST', {
        headers: { prefer: 'return=minimal', 'idempotency-key': sent.key },
        type: 'application/geo+json',
        body,
      })
      sent = {}
      const id = decodeURIComponent(response.headers.get('location').replace(/^.*\//, ''))
      close()
      const link = Object.assign(document.createElement('a'), {
        href: itemAddress(items, id),
        textContent: id,
      })
      added.replaceChildren('Added as ', link, '.')
      created()
    } catch (error) {
      tellProblem(error)
    }
  }

  add.hidden = false
  add.addEventListener('click', open)
  find('cancel').addEventListener('click', close)
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    save()
  })
}
