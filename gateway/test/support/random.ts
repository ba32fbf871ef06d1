// Owns pseudo-random numbers that are the same in every run, so that a failure can be reproduced.

/** @returns a function that returns numbers from 0 to 1, 1 excluded */
export function makeRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 48_271) % 2_147_483_647
    return state / 2_147_483_647
  }
}
