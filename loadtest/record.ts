// Owns what k6 records while it runs: a line a second with everything of that second → curves.

/** Of one second: metric, with its tag where it is by one (`http_reqs{kind:read}`) → aggregate → value. */
export type Snapshot = {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly metrics: Readonly<Record<string, Readonly<Record<string, number>>>>
}

type Aggregates = Readonly<Record<string, readonly string[]>>

/** Reads a record as it grows. */
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
    // Values alone, of all metrics that are known then, by name.
    const names = Object.keys(types).toSorted()
    const metrics: Record<string, Record<string, number>> = {}
    for (const [index, name] of names.entries()) {
      const values: readonly number[] | undefined = data[index]
      const type = types[name]!
      const keys = aggregates[type] ?? []
      // Nothing was added in this second: of a counter that is a figure, of others there is none.
      const isSilent = !values || values.length === 0
      if (isSilent && type !== 'counter') continue
      metrics[name] = Object.fromEntries(keys.map((key, at) => [key, isSilent ? 0 : values[at]!]))
    }
    snapshots.push({ at: metrics.time?.value ?? 0, metrics })
  }

  return {
    snapshots: snapshots as readonly Snapshot[],
    /** @param text what has come since */
    add(text: string) {
      const lines = (rest + text).split('\n')
      rest = lines.pop()!
      for (const line of lines) if (line) take(line)
    },
  }
}

/** The values of a tag by which a metric was recorded: `reasonsOf(snapshots, 'errors', 'reason')`. */
export function tagValues(snapshots: readonly Snapshot[], metric: string, tag: string): readonly string[] {
  const prefix = `${metric}{${tag}:`
  const names = snapshots
    .flatMap(({ metrics }) => Object.keys(metrics))
    .filter((name) => name.startsWith(prefix))
  return [...new Set(names)].map((name) => name.slice(prefix.length, -1)).toSorted()
}
