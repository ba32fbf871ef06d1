// Owns requests to another server: they are repeated while that may help, and credentials go to its own origin alone.

import { setTimeout as sleep } from 'node:timers/promises'
import { withoutSecrets } from '../../../events.ts'
import { ImportError } from '../import-error.ts'

export type RequestOptions = {
  /** The origin that gets `headers`. */
  readonly origin: string
  /** Names and values, such as those of Authorization. */
  readonly headers: Readonly<Record<string, string>>
  readonly signal: AbortSignal
  /** Takes sentences on what a person should know. */
  readonly note: (note: string) => void
  /** Pauses before a request is repeated, in milliseconds; PAUSES_MS by default. */
  readonly pausesMs?: readonly number[] | undefined
}

export interface Requests {
  /**
   * Sends a GET, again and again while a later one may succeed.
   * @param consume reads the answer; it may throw BrokenAnswer
   * @throws RefusedRequest if the server does not serve it; ImportError if it cannot be reached or goes on to fail
   */
  get<T>(address: string, accept: string, consume: (answer: Answer) => Promise<T>): Promise<T>
}

/** @property address from which it came, after redirects */
export type Answer = { readonly response: Response; readonly address: string }

/** An answer that is not complete, or that a server gives for a while: a later one may be. */
export class BrokenAnswer extends Error {
  /** Milliseconds that the server asks to wait for. */
  readonly retryAfterMs: number | undefined

  constructor(message: string, options: { retryAfterMs?: number | undefined; cause?: unknown } = {}) {
    super(message, { cause: options.cause })
    this.retryAfterMs = options.retryAfterMs
  }
}

/** The server has answered, and would answer the same again. */
export class RefusedRequest extends ImportError {
  readonly status: number

  constructor(message: string, status: number) {
    super(message)
    this.status = status
  }
}

/** Together some minutes, in which a server may start again. */
const PAUSES_MS = [1_000, 2_000, 5_000, 15_000, 30_000, 60_000]
/** Longest pause that a server may ask for; with a longer one, the copy ends, and goes on when it is run again. */
const MAX_PAUSE_MS = 3_600_000
/** Statuses of a request that may succeed later; 501 and 505 never do. */
const isPassing = (status: number) =>
  [408, 425, 429].includes(status) || (status >= 500 && status !== 501 && status !== 505)
const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308]
const MAX_REDIRECTS = 5
/** Characters of an address, and of an answer, that a message shows. */
const MAX_SHOWN = 300
/** Bytes of the answer to a refused request that are read. */
const MAX_REASON_BYTES = 64 * 1024

/** Returns an address for messages. */
export const shownAddress = (address: string) => {
  const text = withoutSecrets(address)
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text
}

export function makeRequests({
  origin,
  headers,
  signal,
  note,
  pausesMs = PAUSES_MS,
}: RequestOptions): Requests {
  /** A name that is typed wrong, or a server that is not there, is reported at once. */
  let hasAnswered = false

  async function send(start: string, accept: string): Promise<Answer> {
    let address = start
    for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
      const own = new URL(address).origin === origin ? headers : {}
      const response = await fetch(address, {
        headers: { accept, 'user-agent': 'tessera', ...own },
        // Here, because fetch would send headers other than Authorization to another origin, too.
        redirect: 'manual',
        signal,
      }).catch((cause) => {
        throw new BrokenAnswer(`${shownAddress(address)} cannot be reached (${reasonOf(cause)}).`, { cause })
      })
      hasAnswered = true
      const location = REDIRECTS.includes(response.status) ? response.headers.get('location') : null
      if (location === null) return { response, address }
      await response.body?.cancel()
      if (!URL.canParse(location, address))
        throw new RefusedRequest(
          `${shownAddress(address)} redirects to "${location}", which is no address.`,
          response.status,
        )
      address = new URL(location, address).href
    }
    throw new RefusedRequest(`${shownAddress(start)} redirects more than ${MAX_REDIRECTS} times.`, 310)
  }

  async function attempt<T>(address: string, accept: string, consume: (answer: Answer) => Promise<T>) {
    const answer = await send(address, accept)
    const { response } = answer
    if (response.ok) return await consume(answer)
    const reason = await readReason(response)
    const message = `${shownAddress(answer.address)} answered with ${response.status}${reason}`
    if (!isPassing(response.status))
      throw new RefusedRequest(message + adviceOf(response.status, answer, origin), response.status)
    const retryAfterMs = parseRetryAfter(response.headers.get('retry-after'))
    throw new BrokenAnswer(message, { retryAfterMs })
  }

  return {
    async get(address, accept, consume) {
      for (let attempts = 0; ; attempts++) {
        try {
          return await attempt(address, accept, consume)
        } catch (failure) {
          signal.throwIfAborted()
          if (!(failure instanceof BrokenAnswer)) throw failure
          const pauseMs = pausesMs[attempts]
          const { message, retryAfterMs } = failure
          if (pauseMs === undefined || !hasAnswered) throw new ImportError(message, { cause: failure })
          const waitMs = retryAfterMs ?? pauseMs
          if (waitMs > MAX_PAUSE_MS)
            throw new ImportError(
              `${message} It asks for a pause of ${Math.round(waitMs / 60_000)} minutes.`,
              { cause: failure },
            )
          note(`${message} Repeating it in ${(waitMs / 1000).toFixed(waitMs < 1000 ? 1 : 0)} s …`)
          await sleep(waitMs, undefined, { signal })
        }
      }
    },
  }
}

/** Yields the bytes of an answer. @throws BrokenAnswer if they break off */
export async function* bytesOf({ response, address }: Answer): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of response.body ?? [])
      yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
  } catch (cause) {
    throw new BrokenAnswer(
      `The answer of ${shownAddress(address)} broke off (${reasonOf(cause as Error)}).`,
      {
        cause,
      },
    )
  }
}

/** Bytes of the largest document that is no page of features. */
const MAX_DOCUMENT_BYTES = 16 * 1024 * 1024

/** Reads a document of JSON. @throws BrokenAnswer, or ImportError if it is too large or no JSON */
export async function readJson(answer: Answer): Promise<unknown> {
  checkIsJson(answer)
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of bytesOf(answer)) {
    size += chunk.length
    if (size > MAX_DOCUMENT_BYTES)
      throw new ImportError(
        `${shownAddress(answer.address)} answered with more than ${MAX_DOCUMENT_BYTES} bytes.`,
      )
    chunks.push(chunk)
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'))
  } catch (cause) {
    throw new ImportError(
      `${shownAddress(answer.address)} did not answer with JSON (${(cause as Error).message}).`,
      { cause },
    )
  }
}

/** @throws ImportError if the answer is a page for people */
export function checkIsJson({ response, address }: Answer) {
  const type = response.headers.get('content-type') ?? ''
  if (/html|xml/i.test(type))
    throw new ImportError(
      `${shownAddress(address)} answered with ${type} instead of JSON. If the server chooses the format by a parameter, add that to the address, for example ?f=json.`,
    )
}

/** fetch reports what has happened as the cause of its own error. */
function reasonOf({ message, cause }: Error): string {
  const { code, message: reason } = (cause ?? {}) as NodeJS.ErrnoException
  return code ?? reason ?? message
}

/** Returns how long to wait, in milliseconds: the header has seconds or a date. */
function parseRetryAfter(text: string | null): number | undefined {
  if (text === null) return undefined
  if (/^\d+$/.test(text.trim())) return Number(text) * 1000
  const date = Date.parse(text)
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now())
}

/** Returns what an answer says about its refusal: a problem (RFC 9457), an exception of OGC, or the start of a text. */
async function readReason(response: Response): Promise<string> {
  let text = ''
  try {
    for await (const chunk of response.body ?? []) {
      text += Buffer.from(chunk).toString('utf8')
      if (text.length > MAX_REASON_BYTES) break
    }
  } catch {
    // The status says enough.
  }
  const said = reasonIn(text)?.trim().slice(0, MAX_SHOWN)
  return said ? `: ${withoutSecrets(said).replace(/\.?$/, '.')}` : '.'
}

function reasonIn(text: string): string | undefined {
  try {
    const { detail, description, title, message } = JSON.parse(text)
    const said = [detail, description, message, title].find((one) => one !== undefined && one !== null)
    return typeof said === 'string' ? said : said && JSON.stringify(said)
  } catch {
    return /^\s*</.test(text) ? undefined : text
  }
}

function adviceOf(status: number, { address }: Answer, origin: string): string {
  if (status !== 401 && status !== 403) return ''
  return new URL(address).origin === origin
    ? ' If it needs credentials, --headers names a file with the headers that have them, for example Authorization: Bearer ….'
    : ` The headers of --headers are sent to ${origin} only, and this is another origin: name the collection by its address there.`
}
