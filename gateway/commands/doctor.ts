// Owns `tessera doctor`: looks at everything that a gateway with these settings needs, and says what to do.

import { ConfigError, readConfig } from '../config.ts'
import { splitUrls } from '../database/addresses.ts'
import { withoutSecrets } from '../events.ts'
import { openTerminal } from '../terminal.ts'
import { examine, type Report } from './doctor/examination.ts'
import { SEVERITIES, type Severity } from './doctor/finding.ts'
import { type Addresses, findDatabase, INTERRUPTIONS, runUntilSignal } from './lifecycle.ts'

const OPTIONS = { json: 'flag' } as const

/** Exit codes by the worst that was found; 1 is that of a command that failed. */
const EXIT_CODES: Readonly<Record<Severity | 'nothing', number>> = {
  fault: 3,
  warning: 2,
  note: 0,
  nothing: 0,
}

export async function runDoctor(args: readonly string[]) {
  const { config, options, positionals } = readConfig(args, OPTIONS)
  if (positionals.length > 0) throw new ConfigError(`doctor takes no argument such as ${positionals[0]}.`)
  const emit = openTerminal(process.stderr)
  const interruptedBy = await runUntilSignal(emit, async (cleanup) => {
    const { addresses } = await findDatabase(config, cleanup, true, emit)
    const report = await examine(config, addresses)
    const text = options.json === 'true' ? `${JSON.stringify(complete(report))}\n` : render(report)
    process.stdout.write(hide(text, [...secretsOf(addresses), ...secretsOf(config)]))
    process.exitCode = EXIT_CODES[worstOf(report)]
  })
  if (interruptedBy) process.exitCode = INTERRUPTIONS[interruptedBy]
}

const worstOf = ({ findings }: Report): Severity | 'nothing' => findings[0]?.severity ?? 'nothing'

const complete = (report: Report) => ({ worst: worstOf(report), ...report })

const MARKS: Readonly<Record<Severity, string>> = { fault: '✗', warning: '!', note: '·' }

/** Renders the report for people. */
export function render({ findings, unexamined, examined }: Report): string {
  const counts = SEVERITIES.map((severity) => {
    const count = findings.filter((one) => one.severity === severity).length
    return `${count} ${severity}${count === 1 ? '' : 's'}`
  })
  return [
    ...findings.map(
      ({ severity, check, subject, finding, remedy }) =>
        `${MARKS[severity]} ${subject}: ${finding} [${check}]\n    → ${remedy}`,
    ),
    ...unexamined.map(({ what, why }) => `? ${what} could not be examined: ${why}`),
    `${counts.join(', ')}; looked at ${examined.servers} server${examined.servers === 1 ? '' : 's'} and ${examined.collections} collection${examined.collections === 1 ? '' : 's'}.`,
    '',
  ].join('\n')
}

type Urls = Readonly<Partial<Record<keyof Addresses | 'workerReadUrl', string | undefined>>>

/** Passwords shorter than this would hide parts of words; no message is known to have any. */
const LEAST_SECRET = 6

/** Returns the passwords of URLs, as they are written there and as they are sent. */
function secretsOf({ readUrl, workerReadUrl, writeUrl, ownerUrl }: Urls): readonly string[] {
  return [readUrl, workerReadUrl, writeUrl, ownerUrl]
    .flatMap((one) => (one ? splitUrls(one) : []))
    .flatMap((url) => {
      const [, inAddress] = /^\w+:\/\/[^@/?]*?:([^@/?]*)@/.exec(url) ?? []
      const written = [inAddress, new URLSearchParams(url.split('?', 2)[1]).get('password')]
      return written.flatMap((one) => (one ? [one, decoded(one)] : []))
    })
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** Messages of servers and drivers may repeat what they were sent. */
const hide = (text: string, secrets: readonly string[]) =>
  secrets
    .filter((secret) => secret.length >= LEAST_SECRET)
    .reduce((shown, secret) => shown.replaceAll(secret, '…'), withoutSecrets(text))
