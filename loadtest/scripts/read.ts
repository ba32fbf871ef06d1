// Plays people who look at a map, each as fast as it is answered.

import { findWorld, lookAround, optionsOf } from './users.ts'

export const options = optionsOf({ kinds: ['read'] })
export const setup = findWorld
export default lookAround
