// Owns requests and answers of HTTP/2, each of which is a stream of a connection that others share: they behave like those
// of HTTP/1.1 where Node's do not.

import type { IncomingHttpHeaders } from 'node:http'
import { Http2ServerRequest, Http2ServerResponse, type ServerHttp2Stream } from 'node:http2'

/** Largest part of an answer that is handed over at once, in bytes: how much a client has read is known in such parts. */
const PART_BYTES = 64 * 1024

export class StreamRequest extends Http2ServerRequest {
  constructor(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    options: object | undefined,
    rawHeaders: readonly string[],
  ) {
    // What HTTP/1.1 calls Host.
    headers.host ??= headers[':authority'] as string | undefined
    super(stream, headers as never, options as never, rawHeaders as never)
  }

  /** True if the client has given the request up. Its body then ends as if it were complete. */
  get isBrokenOff(): boolean {
    return this.aborted || this.stream.closed
  }
}

export class StreamResponse extends Http2ServerResponse {
  #written = 0

  constructor(stream: ServerHttp2Stream) {
    super(stream as never)
    // Parts that wait would otherwise be written as one, and count as read when all of it is.
    Object.defineProperty(stream, '_writev', { value: undefined })
  }

  /** How many bytes the client has taken, and how many wait for it. */
  get progress(): { readonly taken: number; readonly waiting: number } {
    const { writableLength: waiting } = this.stream
    return { taken: this.#written - waiting, waiting }
  }

  override write(chunk: string | Uint8Array, ...rest: unknown[]): boolean {
    const encoding = typeof rest[0] === 'string' ? (rest[0] as BufferEncoding) : 'utf8'
    const done = rest.find((one) => typeof one === 'function') as (() => void) | undefined
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk
    this.#written += bytes.length
    let end = Math.min(PART_BYTES, bytes.length)
    let start = 0
    for (; end < bytes.length; end += PART_BYTES) {
      super.write(bytes.subarray(start, end))
      start = end
    }
    return super.write(bytes.subarray(start), 'utf8', done)
  }

  override destroy(error?: Error): this {
    // A stream that is closed without an error is complete for its client.
    super.destroy(error ?? (this.writableFinished ? undefined : new Error('The answer was cut.')))
    return this
  }
}

// Node's class lacks it, although its types have it as a property.
Object.defineProperty(StreamResponse.prototype, 'destroyed', {
  get(this: StreamResponse) {
    return this.stream.destroyed || this.stream.closed
  },
})
