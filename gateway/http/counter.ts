// Owns the count of what each client has under way, and of all of them.

export function makeCounter() {
  const counts = new Map<string, number>()
  let sum = 0
  return {
    of: (client: string) => counts.get(client) ?? 0,
    all: () => sum,
    /** Returns a function that takes it back. */
    add(client: string) {
      counts.set(client, (counts.get(client) ?? 0) + 1)
      sum++
      return () => {
        const left = counts.get(client)! - 1
        if (left > 0) counts.set(client, left)
        else counts.delete(client)
        sum--
      }
    },
  }
}
