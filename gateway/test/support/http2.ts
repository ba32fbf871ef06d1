// Owns a client of HTTP/2 that is used as fetch is.

import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2'

/** Headers that HTTP/2 does not have. */
const OF_CONNECTIONS = /^(connection|keep-alive|transfer-encoding|upgrade|host)$/i

/** Returns a function like fetch, whose requests share a connection for each origin. @param ca whom it trusts */
export function openHttp2(ca: Buffer): typeof fetch & { close(): void } {
  const sessions = new Map<string, ClientHttp2Session>()
  const sessionOf = (origin: string) => {
    let session = sessions.get(origin)
    if (!session || session.closed || session.destroyed) {
      session = connect(origin, { ca })
      session.on('error', () => {})
      sessions.set(origin, session)
    }
    return session
  }
  const send = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const request = new Request(input, init)
    const { origin, pathname, search } = new URL(request.url)
    const body = request.body === null ? undefined : Buffer.from(await request.arrayBuffer())
    const headers: Record<string, string> = {}
    for (const [name, value] of request.headers) if (!OF_CONNECTIONS.test(name)) headers[name] = value
    const stream = sessionOf(origin).request(
      { ':method': request.method, ':path': pathname + search, ...headers },
      { endStream: body === undefined },
    )
    const leave = () => stream.close(constants.NGHTTP2_CANCEL)
    request.signal.addEventListener('abort', leave)
    if (body) stream.end(body)
    return read(stream)
  }
  return Object.assign(send as typeof fetch, {
    close() {
      for (const session of sessions.values()) session.close()
    },
  })
}

function read(stream: ClientHttp2Stream): Promise<Response> {
  return new Promise((resolve, reject) => {
    stream.on('error', reject)
    stream.once('response', async (received) => {
      const headers = new Headers()
      for (const [name, value] of Object.entries(received))
        if (!name.startsWith(':') && value !== undefined)
          for (const one of [value].flat()) headers.append(name, String(one))
      const chunks: Buffer[] = []
      try {
        for await (const chunk of stream) chunks.push(chunk as Buffer)
      } catch (error) {
        return reject(error)
      }
      const status = Number(received[':status'])
      const hasBody = ![204, 205, 304].includes(status)
      resolve(new Response(hasBody ? Buffer.concat(chunks) : null, { status, headers }))
    })
  })
}
