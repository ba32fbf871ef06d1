// Plays a person who opens the collection, moves the map, looks at some features, and pauses to think in between.

import { sleep } from 'k6'
import {
  chooseCity,
  filter,
  findWorld,
  lookAtCollection,
  lookAtFeature,
  lookAtMap,
  optionsOf,
  type World,
} from './users.ts'

const THINK_S = 2
const think = () => sleep(THINK_S * (0.5 + Math.random()))

export const options = optionsOf({ kinds: ['read'] })
export const setup = findWorld

export default function (world: World) {
  lookAtCollection()
  think()
  const moves = 2 + Math.floor(Math.random() * 5)
  for (let move = 0; move < moves; move++) {
    const city = chooseCity(world)
    lookAtMap(city)
    think()
    if (Math.random() < 0.4) {
      lookAtFeature(city)
      think()
    }
  }
  filter(chooseCity(world))
  think()
}
