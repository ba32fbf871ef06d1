// Owns the changes that pages send: with the API key that a person has entered, and the token of their changes before.

import { keepToken, withToken } from './consistency.js'
import { parseJson } from './json.js'
import { keepKey, storedKey, withKey } from './key.js'
import { data } from './map.js'

const [keyRow, keyInput] = ['key-row', 'key'].map((id) => document.getElementById(id))

/** Shows the key that this browser keeps, if there is one. */
export function showKey() {
  keyInput.value = storedKey()
  keyRow.hidden = keyInput.value === ''
  keyRow.addEventListener('submit', (event) => event.preventDefault())
}

/**
 * Sends a change, in the coordinate system of the form; if it needs a key, the page asks for it.
 * @param type media type of the body
 * @throws Error with the problem's code and errors
 */
export async function sendChange(address, method, { headers = {}, type, body } = {}) {
  const key = keyInput.value.trim()
  if (key) keepKey(key)
  const response = await fetch(address, {
    method,
    headers: withToken({
      accept: 'application/geo+json, application/problem+json',
      ...headers,
      ...withKey(key),
      ...(body ? { 'content-type': type } : {}),
      ...(body && data.crs ? { 'content-crs': `<${data.crs}>` } : {}),
    }),
    ...(body ? { body: JSON.stringify(body) } : {}),
  })
  keepToken(response)
  const text = await response.text()
  const answer = text === '' ? undefined : parseJson(text)
  if (response.ok) return { answer, response }
  if (response.status === 401 || response.status === 403) {
    keyRow.hidden = false
    keyInput.focus()
  }
  throw Object.assign(new Error(answer.detail), { code: answer.code, errors: answer.errors ?? [] })
}
