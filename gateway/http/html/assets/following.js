// Owns how a map follows changes while somebody looks at it, at a cost that is bounded: the slower its tiles are made, the
// less often it looks.

/** Time between two looks, and the longest one. */
const LEAST_MS = 5_000
const MOST_MS = 120_000
/** A look takes one part in so many of the time, at most. */
const SHARE = 20
/** Time after which it is looked again whether the tiles are here. */
const STEP_MS = 100

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** Keeps the layers of a map up to date, for as long as the page is open. */
export async function follow(map, layers) {
  let pauseMs = LEAST_MS
  for (;;) {
    await sleep(pauseMs)
    // Tiles that are under way are up to date.
    if (document.hidden || map.isMoving() || !map.areTilesLoaded()) continue
    const startedAt = performance.now()
    for (const layer of layers) if (layer.isVisible()) layer.refresh()
    while (!map.areTilesLoaded()) await sleep(STEP_MS)
    const tookMs = performance.now() - startedAt
    pauseMs = Math.min(Math.max(tookMs * SHARE, LEAST_MS), MOST_MS)
  }
}
