// Plays users who each read or edit in one part of the world while a member is lost: reads go on, changes of its node
// group pause, other changes do not, and all users see their own changes.

import { check, sleep } from 'k6'
import exec from 'k6/execution'
import {
  type City,
  cleanUp,
  create,
  findPlaces,
  findWorld,
  lookAtFeature,
  lookAtMap,
  lookAtOwn,
  optionsOf,
  type Places,
  remove,
  update,
  type World,
} from './users.ts'

/** Seconds that a user pauses after each turn: the test is about a fault, not about a saturated machine. */
const PAUSE_S = 0.1

export const options = optionsOf({
  thresholds: {
    'http_req_failed{kind:read}': ['rate<0.0005'],
    'http_req_failed{kind:write}': ['rate<0.01'],
    checks: ['rate==1'],
  },
})
export const setup = () => {
  const world = findWorld()
  return { world, places: findPlaces(world) }
}
export const teardown = ({ world }: { world: World }) => cleanUp(world)

export default function ({ world, places }: { world: World; places: Places }) {
  // k6 does not keep the order of the keys of what setup returns.
  const names = Object.keys(places).toSorted()
  const user = exec.vu.idInTest
  const name = names[user % names.length]!
  const city = places[name]![Math.floor(user / names.length / 2) % places[name]!.length]!
  const isReader = Math.floor(user / names.length) % 2 === 0
  if (isReader) look(city, `reads, ${name}`)
  else edit(city, world, `writes, ${name}`)
  sleep(PAUSE_S)
}

function look(city: City, flow: string) {
  lookAtMap(city, { tags: { flow } })
  lookAtFeature(city, { tags: { flow } })
}

function edit(city: City, world: World, flow: string) {
  const own = create(city, world, { tags: { flow } })
  if (!own) return
  const changed = update(own, { tags: { flow } })
  const seen = changed && lookAtOwn(changed)
  if (seen !== undefined) check(seen, { 'users see their own changes': () => seen === changed!.value })
  remove(own, { tags: { flow } })
}
