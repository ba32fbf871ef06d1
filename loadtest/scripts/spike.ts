// Plays a rush, as when a link spreads: a tenth of the users, suddenly all of them, and a tenth again. What is too much
// may be refused with 503 and Retry-After; afterwards service is as before.

import { cleanUp, findWorld, makeMixedUser, optionsOf } from './users.ts'

export const options = optionsOf({
  stages({ users, spawnRate, runTime }) {
    const usual = Math.ceil(users / 10)
    const third = `${Math.ceil(runTime / 3)}s`
    return [
      { target: usual, duration: `${Math.ceil(usual / spawnRate)}s` },
      { target: usual, duration: third },
      { target: users, duration: '1s' },
      { target: users, duration: third },
      { target: usual, duration: '1s' },
      { target: usual, duration: third },
    ]
  },
  thresholds: {
    'http_req_failed{kind:read}': ['rate<0.2'],
    'http_req_failed{kind:write}': ['rate<0.2'],
  },
})
export const setup = findWorld
export const teardown = cleanUp
export default makeMixedUser()
