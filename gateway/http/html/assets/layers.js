// Owns the collections on a map: each is drawn from its vector tiles, with all its features at any zoom. One whose tiles
// cannot be made says so.

import { held, hold } from './address.js'
import { addFeatureLayers } from './feature-layer.js'
import { shownText } from './json.js'
import { colourExpression, readSummary, showLegend } from './legend.js'
import { data, onScheme, scheme, tileSource } from './map.js'

const form = document.getElementById('controls')

/** Statuses after which the same request can succeed later; 0 is a gateway that does not answer. */
const isTransient = (status) => status === 0 || status >= 500

/**
 * Adds the collections of the page to its map.
 * @param selectionOf returns the parameters that select the features of a collection
 */
export function addLayers(map, selectionOf) {
  const [hidden, shown] = ['hidden', 'shown'].map(
    (name) => held(name)?.split(',').map(decodeURIComponent) ?? [],
  )
  const coloured = new URLSearchParams(held('colour') ?? '')
  const layers = JSON.parse(data.layers).map((description, index) => {
    const part = form.querySelector(`[data-layer="${CSS.escape(description.id)}"]`)
    const box = part.querySelector('[name=layer]')
    if (box && hidden.includes(description.id)) box.checked = false
    if (box && shown.includes(description.id)) box.checked = true
    const layer = makeLayer(map, description, index, part, selectionOf)
    layer.colourBy(coloured.get(description.id) ?? '')
    return layer
  })
  form.hidden = false
  form.addEventListener('submit', (event) => event.preventDefault())
  form.addEventListener('change', ({ target }) => {
    if (target.name === 'colour') {
      const { id, colourBy } = layers.find(({ id }) => id === target.closest('[data-layer]').dataset.layer)
      colourBy(target.value)
      if (target.value) coloured.set(id, target.value)
      else coloured.delete(id)
      hold('colour', String(coloured) || undefined)
    }
    if (target.name !== 'layer') return
    layers.find(({ id }) => id === target.value).setVisible(target.checked)
    // What is on from the start need not be in the address.
    const boxes = [...form.querySelectorAll('[name=layer]')].filter(
      (box) => box.checked !== box.defaultChecked,
    )
    const listOf = (isChecked) =>
      boxes
        .filter(({ checked }) => checked === isChecked)
        .map(({ value }) => encodeURIComponent(value))
        .join() || undefined
    hold('hidden', listOf(false))
    hold('shown', listOf(true))
  })
  map.on('error', ({ sourceId, error }) => layers.find(({ source }) => source === sourceId)?.fail(error))
  onScheme(() => {
    for (const layer of layers) layer.paint()
  })
  return layers
}

function makeLayer(map, description, index, part, selectionOf) {
  const { id, url, key, isNumbered, label, dimension, columns } = description
  const source = `collection ${id}`
  const box = part.querySelector('[name=layer]')
  const swatch = part.querySelector('[data-swatch]')
  const fault = part.querySelector('.fault')
  const choice = part.querySelector('[name=colour]')
  const legend = part.querySelector('.legend')
  let drawn
  /** The column that features are coloured by, and its summary; undefined for one colour. */
  let coloured
  /** The error of the tiles that have failed; undefined if none has. */
  let failure
  /** The feature that is drawn as being under the pointer. */
  let hovered

  const isVisible = () => box?.checked ?? true
  const colour = () => scheme().kinds[index % scheme().kinds.length]
  const expression = () =>
    coloured ? colourExpression(coloured.summary, coloured.column, scheme()) : colour()

  /** Without a key, a feature is all that its tile has of it. */
  function query() {
    const selection = new URLSearchParams(selectionOf(description))
    const needed = [...new Set([label, coloured?.column[0]])].filter((name) => name !== undefined)
    // A list of names has no way to write one with a comma.
    if (key !== undefined && !needed.some((name) => name.includes(',')))
      selection.set('properties', needed.join())
    return selection
  }

  /** Draws all of it again; a tile that has failed is not loaded again otherwise. */
  function renew() {
    failure = undefined
    hovered = undefined
    fault.hidden = true
    if (drawn) {
      drawn.remove()
      map.removeSource(source)
    }
    map.addSource(source, {
      ...tileSource(url, query()),
      ...(key === undefined || isNumbered ? {} : { promoteId: { [id]: key } }),
    })
    drawn = addFeatureLayers(map, source, {
      sourceLayer: id,
      dimension,
      colour: expression(),
      isVisible: isVisible(),
    })
    paint()
  }

  function paint() {
    drawn.setColour(expression())
    if (swatch) swatch.style.backgroundColor = coloured ? 'transparent' : colour()
    if (coloured) showLegend(legend, coloured.summary, coloured.column, scheme())
    else if (legend) legend.hidden = true
  }

  /** Selects features anew. */
  function select() {
    if (failure) renew()
    else map.getSource(source).setTiles(tileSource(url, query()).tiles)
  }

  /** Colours features by a property. @param name empty for one colour */
  async function colourBy(name) {
    const column = columns.find(([one]) => one === name)
    if (!choice || (!column && !coloured)) return
    choice.value = column ? name : ''
    try {
      const summary = column && (await readSummary(url, name))
      // Another one may have been chosen meanwhile.
      if (choice.value !== (column ? name : '')) return
      coloured = column && { column, summary }
      // Other tiles and other colours at once: MapLibre may draw the old tiles again after it has drawn the new ones.
      renew()
    } catch (error) {
      coloured = undefined
      choice.value = ''
      paint()
      tell(
        `The values of ${name} cannot be read: ${error instanceof TypeError ? 'the gateway does not answer.' : error.message}`,
      )
    }
  }

  function tell(text) {
    fault.hidden = false
    fault.firstElementChild.textContent = text
  }

  async function fail(error) {
    if (failure) return
    failure = error
    const reason = await reasonOf(error)
    // It may have been drawn again meanwhile.
    if (failure !== error) return
    tell(`${description.title} cannot be drawn: ${reason}`)
  }
  fault.querySelector('button').addEventListener('click', renew)
  renew()

  return {
    ...description,
    source,
    get ids() {
      return drawn.ids
    },
    isVisible,
    setVisible: (isShown) => drawn.setVisible(isShown),
    paint,
    renew,
    fail,
    select,
    colourBy,
    /** Returns the value of a feature that decides its colour, for people; empty if none does. */
    noteOf({ properties }) {
      const [name, kind] = coloured?.column ?? []
      return name === label ? '' : shownText(properties[name], kind)
    },
    /** Looks whether features have changed; tiles that have not are not sent again. */
    refresh() {
      if (failure && isTransient(failure.status)) renew()
      else if (!failure) map.refreshTiles(source)
    },
    /** Marks a feature. @param feature its id in tiles; undefined for none */
    hover(feature) {
      if (feature === hovered) return
      const stateOf = (one) => ({ source, sourceLayer: id, id: one })
      if (hovered !== undefined) map.removeFeatureState(stateOf(hovered), 'hover')
      if (feature !== undefined) map.setFeatureState(stateOf(feature), { hover: true })
      hovered = feature
    },
  }
}

/** Returns why tiles have failed, as a sentence for people. */
async function reasonOf({ status, body }) {
  if (status === 0) return 'the gateway does not answer.'
  try {
    return JSON.parse(await body.text()).detail
  } catch {
    return `the gateway answered with status ${status}.`
  }
}
