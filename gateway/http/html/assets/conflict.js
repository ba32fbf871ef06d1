// Owns a conflict of two changes of a feature: both versions side by side, and the choice between them.

import { shownText } from './json.js'
import { data, scheme } from './map.js'

const part = document.getElementById('conflict')
const areEqual = (one, other) => JSON.stringify(one ?? null) === JSON.stringify(other ?? null)

/**
 * Shows what a person has entered next to what somebody else has stored meanwhile.
 * @param kinds name of each property → kind of its column
 * @param versions the feature as it was opened, as it was entered, and as it is stored now
 * @param decide called with the properties and the geometry that the person wants
 * @param resume called if the person would rather go on with the form
 */
export function showConflict(kinds, { before, mine, theirs }, decide, resume) {
  const names = [...kinds.keys()].filter((name) => !areEqual(mine.properties[name], theirs.properties[name]))
  const isMoved = !areEqual(mine.geometry, theirs.geometry)
  const table = document.createElement('table')
  table.append(rowOf('th', ['Property', 'Yours', 'Now stored'], 'col'))
  const body = table.createTBody()
  const choices = new Map()
  const add = (name, isChanged, cells) => {
    const row = body.appendChild(rowOf('td', ['', '', '']))
    const [head, ...sides] = row.cells
    const label = document.createElement('th')
    label.scope = 'row'
    label.textContent = name
    head.replaceWith(label)
    const buttons = sides.map((cell, side) => {
      const choice = cell.appendChild(document.createElement('label'))
      const button = choice.appendChild(document.createElement('input'))
      Object.assign(button, {
        type: 'radio',
        name: `choice ${choices.size}`,
        checked: (side === 0) === isChanged,
      })
      choice.append(...[cells[side]].flat())
      return button
    })
    choices.set(name, buttons[0])
  }
  for (const name of names) {
    const textIn = ({ properties }) => shownText(properties[name], kinds.get(name)) || '(empty)'
    add(name, !areEqual(mine.properties[name], before.properties[name]), [textIn(mine), textIn(theirs)])
  }
  const place = isMoved ? 'Place' : undefined
  if (isMoved) {
    const [theirColour, myColour] = scheme().kinds
    add(place, !areEqual(mine.geometry, before.geometry), [
      // The map shows what is in degrees alone.
      data.crs ? 'as you have entered it' : [swatch(myColour), ' as you have drawn it'],
      [swatch(theirColour), ' as it is stored'],
    ])
  }
  const intro = document.createElement('p')
  intro.textContent =
    choices.size > 0
      ? 'Somebody else has changed this feature. Choose what it should have:'
      : 'Somebody else has changed this feature to what you have entered.'
  const region = document.createElement('div')
  region.className = 'scroll'
  region.append(table)
  const buttons = document.createElement('p')
  buttons.className = 'buttons'
  const button = (text, act) => {
    const made = buttons.appendChild(document.createElement('button'))
    Object.assign(made, { type: 'button', textContent: text })
    made.addEventListener('click', act)
    return made
  }
  const isMine = (name) => choices.get(name)?.checked
  const save = button('Save what is chosen', () => {
    const properties = Object.fromEntries(
      names.map((name) => [name, (isMine(name) ? mine : theirs).properties[name]]),
    )
    decide({ properties, geometry: (isMoved && isMine(place) ? mine : theirs).geometry })
  })
  button('Back to the form', resume)
  part.replaceChildren(intro, region, buttons)
  part.hidden = false
  save.focus()
}

export const hideConflict = () => {
  part.hidden = true
}

/** Returns the colour in which the map shows a version. */
function swatch(colour) {
  const mark = document.createElement('span')
  mark.className = 'swatch'
  mark.style.backgroundColor = colour
  return mark
}

function rowOf(name, texts, scope) {
  const row = document.createElement('tr')
  for (const text of texts) {
    const cell = row.appendChild(document.createElement(name))
    cell.textContent = text
    if (scope) cell.scope = scope
  }
  return row
}
