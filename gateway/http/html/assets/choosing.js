// Owns what a person does with the features on a map: pointing at one shows its name, a click or the Enter key all of it.

import { withToken } from './consistency.js'
import { readAnswer, shownText } from './json.js'
import { itemAddress } from './page-address.js'

const [tip, panel] = ['tip', 'chosen'].map((id) => document.getElementById(id))
/** Pixels around a point in which features are found: a finger is less exact than a mouse. */
const REACH = { touch: 14, pen: 8, mouse: 4 }
/** Most features of one click. */
const MAX_CHOSEN = 30
/** Features around a point that are read to find one whose key is not exact in tiles. */
const MAX_NEAR = 100
/** Pixels around it: a tile has places a little aside. */
const NEAR = 2
/** Pixels of the world at zoom 0. */
const WORLD = 512

/**
 * Lets a person choose features of these layers.
 * @param hover called with the key of the feature under the pointer; undefined for none
 */
export function letChoose(map, layers, hover = () => {}) {
  const canvas = map.getCanvas()

  /** Returns the features around a point, each once, the topmost first. */
  function featuresAt({ x, y }, reach) {
    const shown = layers.filter((layer) => layer.isVisible())
    const around = [
      [x - reach, y - reach],
      [x + reach, y + reach],
    ]
    const seen = new Set()
    return map
      .queryRenderedFeatures(around, { layers: shown.flatMap(({ ids }) => ids) })
      .flatMap((feature) => {
        const layer = shown.find(({ source }) => source === feature.source)
        const key = feature.properties[layer.key] ?? feature.id
        const name = JSON.stringify([layer.id, key ?? feature.properties])
        if (seen.has(name)) return []
        seen.add(name)
        return [{ layer, key, feature }]
      })
  }

  /** False while somebody draws: a click has another meaning then. */
  let isActive = true
  let pointed
  /** Marks the feature under the pointer. @param found undefined for none */
  function point(found, { x, y } = {}) {
    if (!isActive) return
    canvas.style.cursor = found ? 'pointer' : ''
    for (const layer of layers) layer.hover(layer === found?.layer ? found.feature.id : undefined)
    if (found?.key !== pointed) hover(found?.key)
    pointed = found?.key
    tip.hidden = !found
    if (!found) return
    const { layer, key, feature } = found
    tip.textContent = [feature.properties[layer.label] ?? key ?? layer.title, layer.noteOf(feature)]
      .filter(Boolean)
      .join(' · ')
    // It stays within the map.
    const isRight = x > canvas.clientWidth / 2
    tip.style.translate = `${isRight ? `calc(${x - 14}px - 100%)` : `${x + 14}px`} ${y + 14}px`
  }

  map.on('mousemove', (event) => point(featuresAt(event.point, REACH.mouse)[0], event.point))
  map.on('mouseout', () => point(undefined))
  map.on('movestart', () => point(undefined))
  map.on('click', ({ point: place, originalEvent }) => {
    if (!isActive) return
    const found = featuresAt(place, REACH[originalEvent.pointerType] ?? REACH.mouse)
    if (found.length > 0) show(found.slice(0, MAX_CHOSEN))
    else close()
  })
  canvas.addEventListener('keydown', ({ key }) => {
    if (!isActive) return
    if (key === 'Escape') close()
    if (key !== 'Enter') return
    const found = featuresAt(map.project(map.getCenter()), REACH.touch)
    if (found.length > 0) show(found.slice(0, MAX_CHOSEN))
  })
  panel.addEventListener('keydown', ({ key }) => {
    if (key === 'Escape') close()
  })

  function close() {
    if (panel.hidden) return
    const hadFocus = panel.contains(document.activeElement)
    panel.hidden = true
    if (hadFocus) canvas.focus()
  }

  let reading = new AbortController()

  /** Shows one of the features that were chosen, with a way to the others. */
  async function show(found, at = 0) {
    reading.abort()
    reading = new AbortController()
    const { signal } = reading
    const { layer, key, feature } = found[at]
    const name = String(feature.properties[layer.label] ?? key ?? layer.title)
    panel.replaceChildren(headOf(name, found, at), textOf('p', layer.title))
    panel.hidden = false
    panel.focus({ preventScroll: true })
    try {
      const whole = await readFeature(found[at], map.getZoom(), signal)
      if (!signal.aborted) panel.append(...contentOf(layer, whole))
    } catch (error) {
      if (signal.aborted) return
      const reason = error instanceof TypeError ? 'the gateway does not answer.' : error.message
      panel.append(textOf('p', `It cannot be read: ${reason}`))
    }
  }

  function headOf(name, found, at) {
    const head = document.createElement('header')
    head.append(textOf('h2', name))
    if (found.length > 1) {
      const next = head.appendChild(textOf('button', `${at + 1} of ${found.length}: next`))
      next.addEventListener('click', () => show(found, (at + 1) % found.length))
    }
    const end = head.appendChild(textOf('button', '×'))
    end.setAttribute('aria-label', 'Close')
    end.addEventListener('click', close)
    for (const button of head.querySelectorAll('button')) button.type = 'button'
    return head
  }

  return {
    close,
    setActive(isOn) {
      close()
      point(undefined)
      isActive = isOn
    },
  }
}

/** Returns an element with a text. */
function textOf(name, text) {
  const element = document.createElement(name)
  element.textContent = text
  return element
}

/** Reads all of a feature: tiles have what is drawn alone. */
async function readFeature({ layer, key, feature }, zoom, signal) {
  if (layer.key === undefined) return feature
  const read = async (address) =>
    readAnswer(await fetch(address, { cache: 'no-store', headers: withToken(), signal }))
  if (typeof key !== 'number' || Number.isSafeInteger(key) || !layer.isNumbered)
    return read(`${layer.url}/items/${encodeURIComponent(key)}?f=json`)
  // The number has lost digits. The feature has all of them, and is where the tile has it.
  const [x, y] = firstPosition(feature.geometry.coordinates)
  const near = (NEAR * 360) / WORLD / 2 ** Math.floor(zoom)
  const box = [x - near, y - near, x + near, y + near].join()
  const { features } = await read(`${layer.url}/items?f=json&limit=${MAX_NEAR}&bbox=${box}`)
  const found = features.find(({ id }) => Number(id) === key)
  if (found) return found
  throw new Error('its key is not exact in the map.')
}

const firstPosition = (coordinates) =>
  typeof coordinates[0] === 'number' ? coordinates : firstPosition(coordinates[0])

/** Returns the properties of a feature, and the links to it. */
function contentOf({ url, key, columns, isEditable }, { id, properties }) {
  const list = document.createElement('dl')
  for (const [name, kind] of columns) {
    const value = shownText(properties[name], kind)
    if (value === '') continue
    list.append(textOf('dt', name), textOf('dd', value))
  }
  if (key === undefined || id === undefined) return [list]
  const links = document.createElement('p')
  links.className = 'buttons'
  const address = itemAddress(`${url}/items`, id)
  const linkTo = (text, href) =>
    Object.assign(links.appendChild(textOf('a', text)), { href, className: 'button' })
  linkTo('Open', address)
  if (isEditable) linkTo('Edit', `${address}#edit`)
  return [list, links]
}
