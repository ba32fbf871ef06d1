// Plays users who read what they have just changed, with the token of the change, and must never see an older value.

import { check } from 'k6'
import {
  chooseCity,
  cleanUp,
  create,
  findWorld,
  lookAtOwn,
  optionsOf,
  remove,
  update,
  type World,
} from './users.ts'

const CHANGES = 5

export const options = optionsOf({ thresholds: { checks: ['rate==1'] } })
export const setup = findWorld
export const teardown = cleanUp

export default function (world: World) {
  const made = create(chooseCity(world), world)
  let latest = made
  for (let change = 0; latest && change < CHANGES; change++) {
    const { value } = latest
    const seen = lookAtOwn(latest)
    if (seen !== undefined) check(seen, { 'users see their own changes': () => seen === value })
    // If a change was not served, it is not known which value to expect, so the user stops here.
    latest = update(latest)
  }
  if (made) remove(made)
}
