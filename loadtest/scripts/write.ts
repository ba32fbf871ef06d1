// Plays editors who create, change and remove a feature, each sending a request as soon as the one before is answered.

import { cleanUp, findWorld, makeWriter, optionsOf } from './users.ts'

export const options = optionsOf({ kinds: ['write'] })
export const setup = findWorld
export const teardown = cleanUp
export default makeWriter()
