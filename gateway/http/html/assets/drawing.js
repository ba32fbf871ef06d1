// Owns drawing on a map: a person draws, moves and removes the shapes of one geometry with a mouse, a finger or the
// keyboard. What is drawn is written into the form, which is all that is sent.

import { enteredGeometry, setGeometry } from './form.js'
import { onScheme, scheme } from './map.js'
import { areaAround, geometryOf, isShape, shapesOf } from './shapes.js'
import { openSnapping } from './snapping.js'

const [tools, hint, place] = ['tools', 'hint', 'place'].map((id) => document.getElementById(id))
const tool = (name) => tools.querySelector(`[name=${name}]`)
/** Kinds of shapes that the geometry can have. */
const KINDS = ['point', 'line', 'area', 'hole'].filter((kind) => tools && tool(kind))
const HINTS = {
  point: 'Click where the point is.',
  line: 'Click one point after another. Finish ends the line, as does a click on its last point.',
  area: 'Click one corner after another. Finish closes the area, as does a click on its first corner.',
  hole: 'Click the corners of the hole one after another, within an area. Finish closes it.',
  removing: 'Click the points that shall go. An area keeps three of them, and a line two.',
  select: 'Drag a point to move it, or one of those between two points to add it.',
  movePoint: 'Drag the point to move it.',
  empty: 'There is no place yet: choose what to draw.',
}
const WITH_KEYS =
  'On the map, arrow keys move it below the +, in small steps with Shift; Enter is a click there.'
const WITH_KEYS_SELECT =
  'On the map, arrow keys move it below the +, in small steps with Shift; Enter takes the point there and puts it down, and Delete removes it.'
/** Pixels within which a point is found: a finger is less exact than a mouse. */
const REACH = 24
/** Pixels of an arrow key, and with Shift. */
const STEP = 20
const SMALL_STEP = 2
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }
/** Decimals of a degree that are drawn: those of the gateway's GeoJSON. */
const DECIMALS = 9
/** Corners beyond which it is not checked with each move whether edges cross, which takes the square of their number. */
const MAX_CHECKED = 1_000
/** Key that ends a shape: the button's, which no keyboard has. */
const FINISH = 'Finish'

/** Loads a script that defines a global. */
const load = (address) =>
  new Promise((resolve, reject) => {
    const script = document.createElement('script')
    Object.assign(script, { src: address, onload: resolve, onerror: reject })
    document.head.append(script)
  })

/** Loads Terra Draw and its adapter, when somebody edits for the first time. */
async function loadLibrary() {
  for (const address of tools.dataset.scripts.split(' ')) await load(address)
  return { ...globalThis.terraDraw, ...globalThis.terraDrawMaplibreGlAdapter }
}
let library

/**
 * Lets a person draw the geometry of the form, until it is closed.
 * @param items address of the features of the collection
 * @param own id of the feature that is changed; undefined for a new one
 * @returns undefined if the page has no tools, or if they cannot be loaded: the form has the geometry as text
 */
export async function openDrawing(map, items, own) {
  if (!map || !tools) return undefined
  try {
    library ??= loadLibrary()
    await library
  } catch {
    library = undefined
    hint.textContent = 'The tools for drawing could not be loaded.'
    return undefined
  }
  return draw(map, items, own, await library)
}

function draw(map, items, own, { TerraDraw, TerraDrawMapLibreGLAdapter, ...modes }) {
  const canvas = map.getCanvas()
  const mayBeMany = tools.dataset.many !== undefined
  /** True if the geometry has several parts, or one of several. */
  let isMany = false
  /** What has gone otherwise than a person may expect, in what is drawn and in what is around it. */
  let [notice, snappingNotice] = ['', '']
  let isLoading = false
  let isRemoving = false
  /** True while the keyboard holds a point. */
  let isHolding = false
  /** Pixel of an event that is sent here: the event itself has rounded it. */
  let spot
  let selected

  const snapping = openSnapping(map, items, own, (text) => {
    snappingNotice = text
    show()
  })
  class Adapter extends TerraDrawMapLibreGLAdapter {
    getLngLatFromEvent(event) {
      const found = spot ? map.unproject(spot) : super.getLngLatFromEvent(event)
      return (tool('snap').checked && snapping.snap(found)) || found
    }
  }
  const corners = shapesIn()?.flatMap(({ geometry }) => geometry.coordinates.flat()).length ?? 0
  const isCrossing = { selfIntersectable: corners > MAX_CHECKED }
  const edited = {
    feature: {
      ...isCrossing,
      coordinates: { draggable: true, deletable: true, midpoints: { draggable: true } },
    },
  }
  const drawing = new TerraDraw({
    adapter: new Adapter({ map, coordinatePrecision: DECIMALS }),
    modes: [
      new modes.TerraDrawSelectMode({
        flags: { point: { feature: { draggable: true } }, line: edited, area: edited, hole: edited },
        allowManualDeselection: false,
        keyEvents: null,
        dragEventThrottle: 0,
        pointerDistance: REACH,
        pointerEvents: {
          leftClick: () => !isRemoving,
          ...{ rightClick: true, contextMenu: true, onDragStart: true, onDrag: true, onDragEnd: true },
        },
      }),
      new modes.TerraDrawPointMode({ modeName: 'point' }),
      new modes.TerraDrawLineStringMode({ modeName: 'line', ...drawn() }),
      new modes.TerraDrawPolygonMode({ modeName: 'area', ...drawn() }),
      new modes.TerraDrawPolygonMode({ modeName: 'hole', ...drawn() }),
    ],
    undoRedo: {
      modeLevel: new modes.TerraDrawModeUndoRedo(),
      sessionLevel: new modes.TerraDrawSessionUndoRedo(),
      keyboardShortcuts: new modes.TerraDrawUndoRedoKeyboardShortcuts(),
    },
  })
  drawing.start()
  paint()
  // Places beyond 180 degrees, which other copies of the world have, are none of GeoJSON.
  map.setRenderWorldCopies(false)

  const shapes = () => drawing.getSnapshot().filter(isShape)
  const isDrawing = () => drawing.getMode() !== 'select'

  /** Returns the shapes of the form's geometry; undefined if it is none that can be drawn. */
  function shapesIn() {
    const geometry = enteredGeometry()
    try {
      return shapesOf(geometry)
    } catch {
      return undefined
    }
  }

  /** Draws shapes that somebody may have written by hand; returns false if they are none. */
  function canAdd(found) {
    try {
      return (
        found.every(({ properties }) => KINDS.includes(properties.mode)) &&
        drawing.addFeatures(found).every(({ valid }) => valid)
      )
    } catch {
      return false
    }
  }

  /** Draws the geometry of the form in place of what was drawn. */
  function take() {
    isLoading = true
    const found = shapesIn()
    isMany = found !== undefined && enteredGeometry()?.type.startsWith('Multi') === true
    drawing.setMode('select')
    drawing.clear()
    const isDrawable = found !== undefined && canAdd(found)
    if (!isDrawable) drawing.clear()
    drawing.clearUndoRedoHistory()
    isLoading = false
    notice = isDrawable ? '' : 'The map cannot draw this place; it can be changed as text.'
    select(shapes()[0]?.id)
    const [only, other] = KINDS.filter((kind) => kind !== 'hole')
    if (isDrawable && found.length === 0 && other === undefined) setMode(only)
    show()
  }

  /** Writes what is drawn into the form. */
  function write() {
    setGeometry(geometryOf(shapes(), isMany))
  }

  function select(id) {
    selected = id
    if (id !== undefined && drawing.hasFeature(id)) drawing.selectFeature(id)
  }

  function setMode(name) {
    isRemoving = false
    putDown()
    drawing.setMode(name)
    show()
  }

  /** Shows what can be done now. */
  function show() {
    const mode = drawing.getMode()
    const found = shapes()
    const kinds = found.map(({ properties }) => properties.mode)
    for (const kind of KINDS) {
      tool(kind).setAttribute('aria-pressed', String(mode === kind))
      // A geometry has shapes of one kind, and a single one unless the collection has several.
      const isFull = found.length > 0 && !(mayBeMany && kinds.includes(kind))
      tool(kind).disabled = kind === 'hole' ? !kinds.includes('area') : isFull
    }
    const isPoint = kinds[0] === 'point'
    // A geometry of points alone has neither of these.
    for (const [name, isOff] of [
      ['finish', !isDrawing() || mode === 'point'],
      ['corner', isDrawing() || found.length === 0 || isPoint],
    ])
      tool(name)?.toggleAttribute('disabled', isOff)
    tool('corner')?.setAttribute('aria-pressed', String(isRemoving))
    tool('shape').disabled = isDrawing() || !drawing.hasFeature(selected)
    tool('undo').disabled = !drawing.canUndo()
    tool('redo').disabled = !drawing.canRedo()
    const isSelecting = !isDrawing() && found.length > 0
    const text = isRemoving
      ? HINTS.removing
      : isDrawing()
        ? HINTS[mode]
        : found.length === 0
          ? HINTS.empty
          : isPoint
            ? HINTS.movePoint
            : HINTS.select
    const whole = [
      notice,
      snappingNotice,
      text,
      isSelecting ? WITH_KEYS_SELECT : isDrawing() ? WITH_KEYS : '',
    ]
      .filter(Boolean)
      .join(' ')
    // Screen readers read it again if it is written.
    if (hint.textContent !== whole) hint.textContent = whole
  }

  drawing.on('select', (id) => {
    selected = id
    show()
  })
  drawing.on('history', ({ cause }) => {
    if (isLoading) return
    // What is drawn again is no longer selected.
    if (cause !== 'push' && !isDrawing()) select(drawing.hasFeature(selected) ? selected : shapes()[0]?.id)
    write()
    show()
  })
  drawing.on('finish', (id, { action }) => {
    if (action !== 'draw') return
    // The mode itself ends after this.
    queueMicrotask(() => {
      const shape = drawing.getSnapshotFeature(id)
      if (shape?.properties.mode === 'hole' && !areaAround(shape, shapes().filter(isArea))) {
        drawing.removeFeatures([id])
        notice = 'A hole must be within an area.'
      } else notice = ''
      setMode('select')
      select(drawing.hasFeature(id) ? id : shapes()[0]?.id)
      show()
    })
  })

  function removeShape() {
    const shape = drawing.getSnapshotFeature(selected)
    const areas = shapes().filter(isArea)
    const holes = shapes().filter(
      (other) => other.properties.mode === 'hole' && areaAround(other, areas)?.id === shape.id,
    )
    drawing.removeFeatures([shape, ...holes].map(({ id }) => id))
    select(shapes()[0]?.id)
    show()
  }

  const acts = {
    finish() {
      // The button is not to be pressed any more.
      canvas.focus()
      canvas.dispatchEvent(new KeyboardEvent('keyup', { key: FINISH }))
    },
    corner() {
      const wasRemoving = isRemoving
      setMode('select')
      isRemoving = !wasRemoving
      select(selected ?? shapes()[0]?.id)
      show()
    },
    shape: removeShape,
    undo: () => drawing.undo(),
    redo: () => drawing.redo(),
  }
  function press({ target }) {
    const { name } = target.closest('button') ?? {}
    if (name === undefined) return
    if (Object.hasOwn(acts, name)) acts[name]()
    else if (drawing.getMode() === name) {
      setMode('select')
      select(selected)
    } else {
      setMode(name)
      canvas.focus()
    }
    show()
  }

  /** Sends Terra Draw what a pointer would. @param button 2 for the right one */
  function point(types, [x, y], button = 0) {
    const { left, top } = canvas.getBoundingClientRect()
    spot = [x, y]
    for (const type of types)
      canvas.dispatchEvent(
        new PointerEvent(type, { clientX: left + x, clientY: top + y, button, isPrimary: true }),
      )
    spot = undefined
  }
  const CLICK = ['pointermove', 'pointerdown', 'pointerup']
  const middle = () => [canvas.clientWidth / 2, canvas.clientHeight / 2]

  function pressEnter() {
    if (isHolding) return putDown()
    if (isDrawing()) return point(CLICK, middle())
    if (isRemoving) return point(CLICK, middle(), 2)
    const options = { pointerDistance: REACH, ignoreSelectFeatures: false }
    const below = drawing
      .getFeaturesAtLngLat(map.getCenter(), options)
      .filter(({ geometry }) => geometry.type === 'Point')
    if (below.length === 0) return point(CLICK, middle())
    const shape = below.find(isShape)
    if (shape) select(shape.id)
    const [x, y] = middle()
    point(['pointermove'], [x, y])
    // Terra Draw takes for a drag what moves by a pixel at least, and the map moves below the +.
    point(['pointerdown'], [x - 2, y])
    point(['pointermove', 'pointermove'], [x, y])
    isHolding = true
  }

  function putDown() {
    if (!isHolding) return
    isHolding = false
    point(['pointerup'], middle())
  }

  function pressKey(event) {
    const { key, shiftKey, ctrlKey, metaKey, altKey } = event
    if (ctrlKey || metaKey || altKey || event.target !== canvas) return
    const arrow = ARROWS[key]
    if (arrow) {
      const step = shiftKey ? SMALL_STEP : STEP
      map.panBy(
        arrow.map((way) => way * step),
        { animate: false },
      )
      // What is held, or drawn next, is below the +.
      point(['pointermove'], middle())
    } else if (key === 'Enter') pressEnter()
    else if ((key === 'Delete' || key === 'Backspace') && !isDrawing()) point(CLICK, middle(), 2)
    else if (key === 'Escape' && isHolding) putDown()
    else return
    event.preventDefault()
    event.stopPropagation()
  }

  /** A click takes a point away, as the right button does, which a finger has not. */
  function click({ clientX, clientY }) {
    if (!isRemoving) return
    const { left, top } = canvas.getBoundingClientRect()
    point(CLICK, [clientX - left, clientY - top], 2)
  }

  function drawn() {
    return { keyEvents: { cancel: 'Escape', finish: FINISH }, pointerDistance: REACH }
  }

  function paint() {
    const { outline, kinds, sea } = scheme()
    const [, colour, corner] = kinds
    const dot = (name, width, fill = colour, line = outline) => ({
      [`${name}Color`]: fill,
      [`${name}Width`]: width,
      [`${name}OutlineColor`]: line,
      [`${name}OutlineWidth`]: 2,
    })
    const line = { lineStringColor: colour, lineStringWidth: 3 }
    const area = (opacity) => ({
      fillColor: colour,
      fillOpacity: opacity,
      outlineColor: colour,
      outlineWidth: 3,
    })
    const closing = dot('closingPoint', 6, outline, colour)
    drawing.updateModeOptions('point', { styles: dot('point', 8) })
    drawing.updateModeOptions('line', { styles: { ...line, ...closing } })
    drawing.updateModeOptions('area', { styles: { ...area(0.25), ...closing } })
    drawing.updateModeOptions('hole', { styles: { ...area(0.75), fillColor: sea, ...closing } })
    drawing.updateModeOptions('select', {
      styles: {
        ...dot('selectedPoint', 8),
        selectedLineStringColor: colour,
        selectedLineStringWidth: 3,
        selectedPolygonColor: (shape) => (isArea(shape) ? colour : sea),
        selectedPolygonFillOpacity: (shape) => (isArea(shape) ? 0.25 : 0.75),
        selectedPolygonOutlineColor: colour,
        selectedPolygonOutlineWidth: 3,
        ...dot('selectionPoint', 6, outline, colour),
        ...dot('midPoint', 4, corner),
      },
    })
  }
  const isArea = ({ properties }) => properties.mode === 'area'

  const ended = new AbortController()
  const { signal } = ended
  tools.addEventListener('click', press, { signal })
  place.addEventListener('change', take, { signal })
  map.getContainer().addEventListener('keydown', pressKey, { capture: true, signal })
  canvas.addEventListener('click', click, { signal })
  canvas.addEventListener('blur', putDown, { signal })
  map.getContainer().addEventListener('pointerdown', putDown, { capture: true, signal })
  // A cancelled shape leaves the mode on.
  canvas.addEventListener('keyup', show, { signal })
  canvas.addEventListener('pointerup', show, { signal })
  onScheme(paint, signal)
  tools.hidden = false
  take()

  return {
    /** Ends drawing; the form keeps what was drawn. */
    close() {
      ended.abort()
      drawing.stop()
      snapping.close()
      map.setRenderWorldCopies(true)
      tools.hidden = true
      hint.textContent = ''
    },
  }
}
