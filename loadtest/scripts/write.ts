// Plays editors: each makes a feature, changes it and removes it, as fast as that is done.

import { cleanUp, findWorld, makeWriter, optionsOf } from './users.ts'

export const options = optionsOf({ kinds: ['write'] })
export const setup = findWorld
export const teardown = cleanUp
export default makeWriter()
