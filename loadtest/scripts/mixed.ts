// Plays readers and editors in the proportion of READ_RATIO to WRITE_RATIO.

import { cleanUp, findWorld, makeMixedUser, optionsOf } from './users.ts'

export const options = optionsOf()
export const setup = findWorld
export const teardown = cleanUp
export default makeMixedUser()
