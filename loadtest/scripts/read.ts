// Plays users who look at a map, each sending a request as soon as the one before is answered.

import { findWorld, lookAround, optionsOf } from './users.ts'

export const options = optionsOf({ kinds: ['read'] })
export const setup = findWorld
export default lookAround
