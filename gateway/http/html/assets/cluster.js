// Owns the page of the cluster: reads it again while somebody looks at it, and draws curves of what it has read.

import { keepKey, storedKey, withKey } from './key.js'

/** Interval between readings, and the longest one while the gateway does not answer. */
const INTERVAL_MS = 2_000
const LONGEST_INTERVAL_MS = 30_000
const TIMEOUT_MS = 10_000
/** Time that curves show. */
const SHOWN_MS = 240_000

const find = (id) => document.getElementById(id)
const status = () => find('status')
const language = () => document.documentElement.dataset.language
const clock = (time) => new Date(time).toLocaleTimeString(language())

/** Name of a curve → its points. The load of another process of the gateway has other names. */
const curves = new Map()
/** Live part → its HTML as the server sent it. */
const shown = new Map()

/** Reads the page. @returns its document @throws Error that explains to a person why it cannot be read */
async function read(key = storedKey()) {
  const response = await fetch(location, {
    cache: 'no-store',
    headers: { accept: 'text/html', ...withKey(key) },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  })
  const page = new DOMParser().parseFromString(await response.text(), 'text/html')
  if (response.ok) return page
  const reason = page.querySelector('#status, main p')?.textContent ?? `status ${response.status}`
  throw Object.assign(new Error(reason), { isLocked: response.status === 401 || response.status === 403 })
}

/** Replaces what has changed. Parts that scroll or have the focus are around these, and stay. */
function show(page) {
  for (const part of document.querySelectorAll('[data-live]')) {
    const next = page.getElementById(part.id)
    const html = next.innerHTML
    if (shown.get(part.id) !== html) part.replaceChildren(...next.childNodes)
    shown.set(part.id, html)
  }
  drawCurves()
}

function drawCurves() {
  const now = Date.now()
  for (const place of document.querySelectorAll('[data-curve]')) {
    const { curve, value, unit } = place.dataset
    const points = curves.get(curve) ?? []
    points.push({ at: now, value: value === '' ? undefined : Number(value) })
    while (now - points[0].at > SHOWN_MS) points.shift()
    curves.set(curve, points)
    place.replaceChildren(drawingOf(points, now, unit))
  }
  for (const [name, points] of curves) if (now - points.at(-1).at > SHOWN_MS) curves.delete(name)
}

const WIDTH = 96
const HEIGHT = 24

/** Returns the drawing of a curve, which has a gap where the value is not known. */
function drawingOf(points, now, unit) {
  const known = points.map(({ value }) => value).filter((value) => value !== undefined)
  const most = Math.max(1, ...known)
  const x = ({ at }) => (WIDTH * (1 - (now - at) / SHOWN_MS)).toFixed(1)
  const y = ({ value }) => (HEIGHT - 2 - ((HEIGHT - 4) * value) / most).toFixed(1)
  let path = ''
  points.forEach((point, index) => {
    if (point.value === undefined) return
    const isFirst = points[index - 1]?.value === undefined
    // A point alone is a dot: a line of no length with round ends.
    path += isFirst ? `M${x(point)} ${y(point)}h0` : `L${x(point)} ${y(point)}`
  })
  const drawing = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  drawing.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`)
  drawing.setAttribute('role', 'img')
  const peak = Math.max(0, ...known).toLocaleString(language())
  drawing.setAttribute('aria-label', `The last four minutes: at most ${peak} ${unit}`)
  const line = drawing.appendChild(document.createElementNS(drawing.namespaceURI, 'path'))
  line.setAttribute('d', path || 'M0 0')
  return drawing
}

let isPaused = false
let intervalMs = INTERVAL_MS
let timer
let seenAt = Date.now()

const follows = () => !isPaused && !document.hidden
const wait = () => {
  clearTimeout(timer)
  if (follows()) timer = setTimeout(look, intervalMs)
}

function tell(text) {
  // A screen reader repeats what is set again.
  if (status().textContent !== text) status().textContent = text
}

let isLooking = false
async function look() {
  if (isLooking) return
  isLooking = true
  try {
    const page = await read()
    seenAt = Date.now()
    intervalMs = INTERVAL_MS
    show(page)
    if (!isPaused) tell('This page follows the cluster.')
  } catch (error) {
    intervalMs = Math.min(intervalMs * 2, LONGEST_INTERVAL_MS)
    const reason = error.isLocked ? error.message : 'The gateway does not answer; this page tries again.'
    tell(`What you see is as it was at ${clock(seenAt)}. ${reason}`)
  }
  document.body.classList.toggle('old', intervalMs > INTERVAL_MS)
  isLooking = false
  wait()
}

/** Starts to follow the cluster, on a page that shows it. */
function follow() {
  for (const part of document.querySelectorAll('[data-live]')) shown.set(part.id, part.innerHTML)
  const pause = find('pause')
  pause.hidden = false
  pause.addEventListener('click', () => {
    isPaused = !isPaused
    pause.textContent = isPaused ? 'Go on' : 'Pause'
    tell(isPaused ? `Paused: this is how it was at ${clock(seenAt)}.` : 'This page follows the cluster.')
    if (isPaused) wait()
    else look()
  })
  document.addEventListener('visibilitychange', () => (follows() ? look() : wait()))
  tell('This page follows the cluster.')
  drawCurves()
  wait()
}

/** Shows the cluster to a person who has a key. */
async function unlock(key) {
  try {
    const page = await read(key)
    keepKey(key)
    document.documentElement.dataset.language = page.documentElement.dataset.language
    find('main').replaceChildren(...page.getElementById('main').childNodes)
    follow()
    find('main').focus()
  } catch (error) {
    tell(error.message)
  }
}

const form = find('unlock')
if (form) {
  form.hidden = false
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    unlock(find('key').value.trim())
  })
  if (storedKey()) unlock(storedKey())
} else follow()
