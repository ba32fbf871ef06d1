// Owns the popularity of features: the first ranks are drawn most often, and the last still now and then.

/**
 * Draws by Zipf's law: the thing of rank n is drawn in proportion to 1 / n ** exponent.
 * @returns a function from a number between 0 and 1, evenly distributed, to an index from 0
 */
export function makeZipf(count: number, exponent = 1): (uniform: number) => number {
  const sums: number[] = []
  let sum = 0
  for (let rank = 1; rank <= count; rank++) {
    sum += 1 / rank ** exponent
    sums.push(sum)
  }
  return (uniform) => {
    const wanted = uniform * sum
    let [low, high] = [0, count - 1]
    while (low < high) {
      const middle = (low + high) >> 1
      if (sums[middle]! > wanted) high = middle
      else low = middle + 1
    }
    return low
  }
}
