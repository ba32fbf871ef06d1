// Owns what a history of requests may not show, whatever died meanwhile: the checker of the nemesis suite. Pure.

/** What a client knows of its change afterwards. */
export type Fate =
  /** It was acknowledged. */
  | 'done'
  /** It was told that nothing has happened. */
  | 'refused'
  /** Nobody could tell it. */
  | 'unknown'

/** A feature that was to be made, told from all others by its mark. */
export type Insertion = { readonly kind: 'insertion'; readonly mark: string; readonly fate: Fate }

/** One feature's value, which one client alone changes, from 0 upwards; each value is tried once. */
export type Setting = {
  readonly kind: 'setting'
  readonly register: string
  readonly value: number
  readonly fate: Fate
}

/** What a client saw. In the order in which a session's looks were answered. */
export type Look = {
  readonly kind: 'look'
  readonly register: string
  readonly value: number
  /** The value whose token was sent along: no less may be seen. */
  readonly atLeast: number
  /** Looks of one session never go backwards; undefined where nothing was asked for. */
  readonly session: string | undefined
}

/** Which of the registers of a place a page had. */
export type Scan = {
  readonly kind: 'scan'
  readonly expected: readonly string[]
  readonly seen: readonly string[]
}

export type Occurrence = Insertion | Setting | Look | Scan

/** What is there at the end, read when all is well again. */
export type Remains = {
  /** How many features bear each mark. */
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

/** @returns every breach of a promise; unknown changes may have happened, once, or not */
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

/** A value must have been set by somebody who was not told that it was refused. */
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

/** Looks of a session at one register that show less than one before. */
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
