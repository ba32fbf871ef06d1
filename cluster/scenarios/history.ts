// Owns the checker of the nemesis suite: what a history of requests must not show, whatever died meanwhile. Pure.

/** What a client knows about its change afterwards. */
export type Fate =
  /** It was acknowledged. */
  | 'done'
  /** The response was that nothing has happened. */
  | 'refused'
  /** No response gave the outcome. */
  | 'unknown'

/** A feature that a client tried to create; its mark distinguishes it from all others. */
export type Insertion = { readonly kind: 'insertion'; readonly mark: string; readonly fate: Fate }

/** A change of one feature's value. Only one client changes it, from 0 upwards, and tries each value once. */
export type Setting = {
  readonly kind: 'setting'
  readonly register: string
  readonly value: number
  readonly fate: Fate
}

/** What a client saw. The looks of a session are in the order of their responses. */
export type Look = {
  readonly kind: 'look'
  readonly register: string
  readonly value: number
  /** The value whose token the client sent; the read must not show a smaller one. */
  readonly atLeast: number
  /** Session whose looks must never go backwards; undefined if the client did not request that. */
  readonly session: string | undefined
}

/** The registers of a spot that a page contained. */
export type Scan = {
  readonly kind: 'scan'
  readonly expected: readonly string[]
  readonly seen: readonly string[]
}

export type Occurrence = Insertion | Setting | Look | Scan

/** The data at the end, read after the cluster has recovered. */
export type Remains = {
  /** Number of features with each mark. */
  readonly marks: ReadonlyMap<string, number>
  readonly registers: ReadonlyMap<string, number>
}

export type Violation = {
  readonly promise:
    | 'an acknowledged change is lost'
    | 'a change has happened twice'
    | 'a change that was refused has happened'
    | 'a change has happened that nobody made'
    | 'a read is older than the own change'
    | 'reads go backwards'
    | 'a page lacks a feature, or has it twice'
  /** What was seen, for people. */
  readonly detail: string
}

/** @returns every breach of a promise; a change with an unknown outcome may have happened once, or not at all */
export function findViolations(history: readonly Occurrence[], remains: Remains): readonly Violation[] {
  const of = <K extends Occurrence['kind']>(kind: K) =>
    history.filter((one): one is Extract<Occurrence, { kind: K }> => one.kind === kind)
  const settings = Map.groupBy(of('setting'), ({ register }) => register)
  return [
    ...findInsertionFaults(of('insertion'), remains.marks),
    ...[...settings].flatMap(([register, own]) => findSettingFaults(register, own, remains.registers)),
    ...of('look').flatMap((look) => findLookFaults(look, settings.get(look.register) ?? [])),
    ...findSteps(of('look')),
    ...of('scan').flatMap(findScanFaults),
  ]
}

function findInsertionFaults(
  insertions: readonly Insertion[],
  marks: Remains['marks'],
): readonly Violation[] {
  const made = new Set(insertions.map(({ mark }) => mark))
  const strangers = [...marks.keys()].filter((mark) => !made.has(mark))
  return [
    ...insertions.flatMap(({ mark, fate }): Violation[] => {
      const count = marks.get(mark) ?? 0
      if (count > 1) return [{ promise: 'a change has happened twice', detail: `${count} times ${mark}` }]
      if (fate === 'done' && count === 0) return [{ promise: 'an acknowledged change is lost', detail: mark }]
      if (fate === 'refused' && count > 0)
        return [{ promise: 'a change that was refused has happened', detail: mark }]
      return []
    }),
    ...strangers.map(
      (mark): Violation => ({ promise: 'a change has happened that nobody made', detail: mark }),
    ),
  ]
}

function findSettingFaults(
  register: string,
  settings: readonly Setting[],
  registers: Remains['registers'],
): readonly Violation[] {
  const last = registers.get(register)
  if (last === undefined) return [{ promise: 'an acknowledged change is lost', detail: `all of ${register}` }]
  const acknowledged = Math.max(0, ...settings.filter(isDone).map(({ value }) => value))
  if (last < acknowledged) {
    const detail = `${register} is ${last} and was set to ${acknowledged}`
    return [{ promise: 'an acknowledged change is lost', detail }]
  }
  return findOriginFaults(register, last, settings)
}

const isDone = ({ fate }: Setting) => fate === 'done'

/** A client must have set the value, and must not have received a refusal for it. */
function findOriginFaults(register: string, value: number, settings: readonly Setting[]): Violation[] {
  if (value === 0) return []
  const own = settings.find((one) => one.value === value)
  const detail = `${register} is ${value}`
  if (!own) return [{ promise: 'a change has happened that nobody made', detail }]
  return own.fate === 'refused' ? [{ promise: 'a change that was refused has happened', detail }] : []
}

function findLookFaults({ register, value, atLeast }: Look, settings: readonly Setting[]): Violation[] {
  if (value >= atLeast) return findOriginFaults(register, value, settings)
  return [
    {
      promise: 'a read is older than the own change',
      detail: `${register} was seen as ${value}, after it was set to ${atLeast}`,
    },
  ]
}

/** Finds looks that show a smaller value than an earlier look of the same session at the same register. */
function findSteps(looks: readonly Look[]): Violation[] {
  const highest = new Map<string, number>()
  return looks.flatMap(({ session, register, value }): Violation[] => {
    if (session === undefined) return []
    const key = JSON.stringify([session, register])
    const before = highest.get(key) ?? 0
    highest.set(key, Math.max(before, value))
    if (value >= before) return []
    return [
      { promise: 'reads go backwards', detail: `${session} saw ${register} as ${before}, then as ${value}` },
    ]
  })
}

function findScanFaults({ expected, seen }: Scan): Violation[] {
  const counts = Map.groupBy(seen, (register) => register)
  return expected
    .filter((register) => counts.get(register)?.length !== 1)
    .map((register) => ({
      promise: 'a page lacks a feature, or has it twice' as const,
      detail: `${register}, ${counts.get(register)?.length ?? 0} times`,
    }))
}
