// Owns what `tessera doctor` finds: what is wrong, how bad that is, and what to do about it.

/** What is wrong: clients notice a fault or soon will; a warning may become one; a note is good to know. */
export const SEVERITIES = ['fault', 'warning', 'note'] as const
export type Severity = (typeof SEVERITIES)[number]

export type Finding = {
  readonly severity: Severity
  /** Name of the check, for scripts; it does not change. */
  readonly check: string
  /** What it is about: an address, a role, a collection. */
  readonly subject: string
  /** A sentence. */
  readonly finding: string
  /** A sentence, or statements of SQL or of a shell, that would make it right. */
  readonly remedy: string
}

/** Something that could not be looked at. */
export type Unexamined = { readonly what: string; readonly why: string }

const DAY_MS = 86_400_000
/** Enough time to get a new certificate from people who must be asked for it. */
const SOON_DAYS = 30

/** Returns what is found about something that ends at a time; nothing if that is far away. */
export function judgeEnd(
  check: string,
  subject: string,
  what: string,
  endsMs: number,
  remedy: string,
  nowMs: number,
): readonly Finding[] {
  const days = Math.floor((endsMs - nowMs) / DAY_MS)
  const date = new Date(endsMs).toISOString().slice(0, 10)
  if (days >= SOON_DAYS) return []
  return days < 0
    ? [{ severity: 'fault', check, subject, finding: `${what} ended on ${date}.`, remedy }]
    : [
        {
          severity: 'warning',
          check,
          subject,
          finding: `${what} ends on ${date}, in ${days === 1 ? 'a day' : `${days} days`}.`,
          remedy,
        },
      ]
}

/** Returns what a server or the system has said, as the end of a sentence. */
export const ending = (message: string) => `${message.trim().replace(/\.$/, '')}.`

/** Returns a name as SQL takes it. */
export const inSql = (name: string) =>
  /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`

export const qualified = ({ schema, table }: { readonly schema: string; readonly table: string }) =>
  `${inSql(schema)}.${inSql(table)}`
