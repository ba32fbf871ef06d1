// Owns the record that k6 writes during a run: one line per second → a snapshot of all metrics of that second.

/** One second: metric, with its tag if it is recorded by tag (`http_reqs{kind:read}`) → aggregate → value. */
export type Snapshot = {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly metrics: Readonly<Record<string, Readonly<Record<string, number>>>>
}

type Aggregates = Readonly<Record<string, readonly string[]>>

/** Returns a reader of a record that still grows. */
export function makeRecordReader() {
  let rest = ''
  let aggregates: Aggregates = {}
  const types: Record<string, string> = {}
  const snapshots: Snapshot[] = []

  function take(line: string) {
    const { event, data } = JSON.parse(line)
    if (event === 'param') aggregates = data.aggregates
    if (event === 'metric')
      for (const [name, { type }] of Object.entries<{ type: string }>(data)) types[name] = type
    if (event !== 'snapshot') return
    // A snapshot has values only: those of all metrics known so far, in the order of their names.
    const names = Object.keys(types).toSorted()
    const metrics: Record<string, Record<string, number>> = {}
    for (const [index, name] of names.entries()) {
      const values: readonly number[] | undefined = data[index]
      const type = types[name]!
      const keys = aggregates[type] ?? []
      // Without a sample in this second a counter is 0, and other metrics have no value.
      const isSilent = !values || values.length === 0
      if (isSilent && type !== 'counter') continue
      metrics[name] = Object.fromEntries(keys.map((key, at) => [key, isSilent ? 0 : values[at]!]))
    }
    snapshots.push({ at: metrics.time?.value ?? 0, metrics })
  }

  return {
    snapshots: snapshots as readonly Snapshot[],
    /** @param text what was appended since the last call */
    add(text: string) {
      const lines = (rest + text).split('\n')
      rest = lines.pop()!
      for (const line of lines) if (line) take(line)
    },
  }
}

/** Returns the values of a tag for which a metric was recorded: `tagValues(snapshots, 'errors', 'reason')`. */
export function tagValues(snapshots: readonly Snapshot[], metric: string, tag: string): readonly string[] {
  const prefix = `${metric}{${tag}:`
  const names = snapshots
    .flatMap(({ metrics }) => Object.keys(metrics))
    .filter((name) => name.startsWith(prefix))
  return [...new Set(names)].map((name) => name.slice(prefix.length, -1)).toSorted()
}
