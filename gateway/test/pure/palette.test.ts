// Tests the colours of maps: whether people see features before land and sea, in light and dark.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SCHEMES } from '../../http/html/assets/palette.js'

/** Returns the relative luminance of a colour (WCAG 2.2). */
function luminance(colour: string): number {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const part = Number.parseInt(colour.slice(at, at + 2), 16) / 255
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!
}
function contrast(one: string, other: string): number {
  const [dark, light] = [luminance(one), luminance(other)].toSorted((a, b) => a - b)
  return (light! + 0.05) / (dark! + 0.05)
}

test('every colour of features has a contrast of 3:1 to land and to sea', () => {
  for (const [name, { land, sea, rest, kinds, classes }] of Object.entries(SCHEMES))
    for (const colour of [rest, ...kinds, ...classes])
      for (const ground of [land, sea]) {
        const found = contrast(colour, ground)
        assert.ok(found >= 3, `${name}: ${colour} on ${ground} has ${found.toFixed(2)}`)
      }
})

test('classes grow away from the ground, so that they are in order for people who see no hues', () => {
  for (const { land, classes } of Object.values(SCHEMES)) {
    const found = classes.map((colour) => contrast(colour, land))
    for (const [index, one] of found.entries())
      assert.ok(index === 0 || one > found[index - 1]! * 1.15, found.map((value) => value.toFixed(2)).join())
  }
})

test('no colour has two meanings', () => {
  for (const { rest, kinds, classes } of Object.values(SCHEMES)) {
    const all = [rest, ...kinds, ...classes]
    assert.equal(new Set(all).size, all.length)
  }
})
