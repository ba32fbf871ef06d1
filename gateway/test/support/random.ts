// Owns numbers that look random and are the same in every run, so that what fails can be seen again.

/** @returns numbers from 0 to 1, 1 excluded */
export function makeRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 48_271) % 2_147_483_647
    return state / 2_147_483_647
  }
}
