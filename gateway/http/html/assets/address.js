// Owns what the address holds besides its query: the view of a map and how it is drawn, so that it can be sent to somebody.

/** Names of values that a fragment can hold; one with others is a place in the page, such as `#main`. */
const NAMES = ['map', 'hidden', 'shown', 'colour', 'datetime']

const parse = () => {
  const found = new URLSearchParams(location.hash.slice(1))
  return new URLSearchParams(NAMES.flatMap((name) => (found.has(name) ? [[name, found.get(name)]] : [])))
}
const state = parse()

/** Returns the fragment with everything that is held; empty if that is nothing. */
export const fragment = () => {
  // A fragment may have slashes, which are easier to read.
  const text = String(state).replaceAll('%2F', '/').replaceAll('%2C', ',')
  return text && `#${text}`
}

/** @returns null if it is not held */
export const held = (name) => state.get(name)

/** Holds a value. @param value undefined for none */
export function hold(name, value) {
  if (value === undefined) state.delete(name)
  else state.set(name, value)
  history.replaceState(history.state, '', location.pathname + location.search + fragment())
}

// Somebody has opened another address of the same page.
addEventListener('hashchange', () => {
  if (parse().size > 0) location.reload()
})
