// Plays what mixed plays, at an easy pace for an hour: growth, leaks and slowdowns become visible.

import { sleep } from 'k6'
import { cleanUp, findWorld, makeMixedUser, optionsOf, type World } from './users.ts'

const PAUSE_S = 0.5

export const options = optionsOf({ runTime: 3_600 })
export const setup = findWorld
export const teardown = cleanUp

const act = makeMixedUser()
export default function (world: World) {
  act(world)
  sleep(PAUSE_S * (0.5 + Math.random()))
}
