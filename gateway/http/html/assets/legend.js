// Owns colours by a property: which values or classes have which colour on the map, and the legend that says so.

import { withToken } from './consistency.js'
import { readAnswer, shownText } from './json.js'

/** Reads the values of a property, as the gateway finds them in a sample. */
export const readSummary = async (url, property) =>
  readAnswer(await fetch(`${url}/summary?property=${encodeURIComponent(property)}`, { headers: withToken() }))

/**
 * Returns the classes of a property, each with its name for people, what features of it have, and a colour of the scheme;
 * the last one is for all other features.
 */
function classesOf({ sampled, missing, values, bounds }, kind, scheme) {
  const nameOf = (value) => shownText(value, kind)
  if (bounds) {
    const between = bounds.slice(0, -1).map((from, index) => ({
      from,
      name: `${nameOf(from)} – ${nameOf(bounds[index + 1])}`,
      colour: spread(scheme.classes, index, bounds.length - 1),
    }))
    return [...between, ...(missing > 0 ? [{ name: 'none', colour: scheme.rest }] : [])]
  }
  const isInOrder = kind === 'integer' || kind === 'number'
  const known = values.map(({ value, count }, index) => ({
    value,
    name: nameOf(value) === '' ? '(empty)' : nameOf(value),
    share: count / sampled,
    colour:
      isInOrder && values.length <= scheme.classes.length
        ? spread(scheme.classes, index, values.length)
        : scheme.kinds[index],
  }))
  const rest = 1 - known.reduce((sum, { share }) => sum + share, 0)
  // Shares are sums of fractions.
  return [...known, ...(rest > 1e-9 ? [{ name: 'others', share: rest, colour: scheme.rest }] : [])]
}

/** Returns one of the colours, so that a few of them are as far apart as they can be. */
const spread = (colours, index, count) =>
  colours[Math.round((index * (colours.length - 1)) / Math.max(1, count - 1))]

/** Returns the colours of a property as an expression of MapLibre. */
export function colourExpression(summary, [name, kind], scheme) {
  const value = ['get', name]
  const classes = classesOf(summary, kind, scheme)
  if (summary.bounds) {
    const [first, ...further] = classes.filter(({ from }) => from !== undefined)
    const steps = further.flatMap(({ from, colour }) => [from, colour])
    const number = ['to-number', value]
    const colour = steps.length > 0 ? ['step', number, first.colour, ...steps] : first.colour
    return ['case', ['has', name], colour, scheme.rest]
  }
  const known = classes.filter((one) => one.value !== undefined)
  if (known.length === 0) return scheme.rest
  // Tiles have exact decimals as texts.
  const isThat = ({ value: wanted }) =>
    typeof wanted === 'number'
      ? ['==', ['to-number', value], wanted]
      : ['==', ['to-string', value], String(wanted)]
  return [
    'case',
    ['!', ['has', name]],
    scheme.rest,
    ...known.flatMap((one) => [isThat(one), one.colour]),
    scheme.rest,
  ]
}

/** Writes the legend into a list. */
export function showLegend(list, summary, [, kind], scheme) {
  const percent = new Intl.NumberFormat(document.documentElement.dataset.language, {
    style: 'percent',
    maximumSignificantDigits: 2,
  })
  list.replaceChildren(
    ...classesOf(summary, kind, scheme).map(({ name, share, colour }) => {
      const item = document.createElement('li')
      const swatch = item.appendChild(document.createElement('span'))
      swatch.className = 'swatch'
      swatch.style.backgroundColor = colour
      item.append(name)
      if (share !== undefined)
        item.append(
          ' ',
          Object.assign(document.createElement('small'), { textContent: percent.format(share) }),
        )
      return item
    }),
  )
  list.hidden = false
}
