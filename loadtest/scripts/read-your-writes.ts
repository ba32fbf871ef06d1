// Plays people who look at what they have just changed, with the token of the change: never may they see less.

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
    if (seen !== undefined) check(seen, { 'a change is seen by who made it': () => seen === value })
    // Of one that was not served nobody knows what there is to see.
    latest = update(latest)
  }
  if (made) remove(made)
}
