// Owns the attacks: what hostile clients send, again and again, and how little they read.

import { Agent, get, request } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export type Attack = {
  readonly does: string
  /** Attacks until the signal aborts. @param count called with the outcome of each request */
  readonly run: (url: string, count: (outcome: string) => void, signal: AbortSignal) => Promise<void>
}

const each = (count: number, work: (index: number) => Promise<void>) =>
  Promise.all(Array.from({ length: count }, (_, index) => work(index))).then(() => {})
const pause = (ms: number, signal: AbortSignal) => sleep(ms, undefined, { signal }).catch(() => {})

/** Lets connections attack at the same time, each again and again with a pause in between. */
const repeatedly = (connections: number, pauseMs: number, signal: AbortSignal, attack: () => Promise<void>) =>
  each(connections, async () => {
    while (!signal.aborted) {
      await attack()
      await pause(pauseMs, signal)
    }
  })

/** Reads a page as fast as it comes. @returns its status, or the code of the error */
const read = (url: string, address: string, agent?: Agent) =>
  new Promise<string>((resolve) => {
    const fail = (error: Error & { code?: string }) => resolve(error.code ?? error.message)
    const options = { headers: { 'x-forwarded-for': address }, ...(agent ? { agent } : {}) }
    get(url, options, (response) => {
      response.resume()
      response.on('end', () => resolve(String(response.statusCode))).on('error', fail)
    }).on('error', fail)
  })

/**
 * Opens a connection that reads a little at intervals, until the other side or the attack ends it.
 * @param bytes how much it reads each time; 0 for nothing
 */
const readSlowly = (
  url: string,
  path: string,
  address: string,
  { bytes, everyMs }: { readonly bytes: number; readonly everyMs: number },
  signal: AbortSignal,
) =>
  new Promise<string>((resolve) => {
    const { hostname, port } = new URL(url)
    const socket = connect(Number(port), hostname)
    let first = ''
    const timer = setInterval(() => {
      const chunk = bytes > 0 || first === '' ? socket.read(bytes || 20) : null
      if (first === '' && chunk) first = chunk.toString('latin1').slice(9, 12)
      // It was refused, and tries again.
      if (first !== '' && first !== '200') socket.destroy()
    }, everyMs)
    const end = () => socket.destroy()
    signal.addEventListener('abort', end)
    socket
      .on('error', () => {})
      .on('close', () => {
        clearInterval(timer)
        signal.removeEventListener('abort', end)
        resolve(signal.aborted ? `${first || 'no answer'}, still open` : `${first || 'no answer'}, closed`)
      })
    socket.pause()
    socket.write(`GET ${path} HTTP/1.1\r\nhost: a\r\nx-forwarded-for: ${address}\r\n\r\n`)
  })

const post = (url: string, body: string) =>
  new Promise<string>((resolve) => {
    const fail = (error: Error & { code?: string }) => resolve(error.code ?? error.message)
    const sent = request(
      url,
      { method: 'POST', agent: false, headers: { 'content-type': 'application/geo+json' } },
      (response) => {
        response.resume()
        response.on('end', () => resolve(String(response.statusCode))).on('error', fail)
      },
    )
    sent.on('error', fail)
    sent.end(body)
  })

/** Members of a body that the table has no columns for. */
const UNKNOWN_MEMBERS = 380_000

export const attacks: Readonly<Record<string, Attack>> = {
  faults: {
    does: 'every five seconds a body of 3.7 MB with 380,000 unknown properties, from this machine',
    async run(url, count, signal) {
      const members = Array.from({ length: UNKNOWN_MEMBERS }, (_, index) => `"${index.toString(16)}":0`)
      const body = `{"type":"Feature","geometry":null,"properties":{${members.join()}}}`
      await repeatedly(1, 5_000, signal, async () =>
        count(await post(`${url}/collections/cities/items`, body)),
      )
    },
  },
  'slow-readers': {
    does: '40 connections for 120 MB each, which read 64 kB every ten seconds',
    run: (url, count, signal) =>
      repeatedly(40, 1_000, signal, async () => {
        const pace = { bytes: 65_536, everyMs: 10_000 }
        count(await readSlowly(url, '/collections/bigpoly/items?limit=300', '203.0.113.2', pace, signal))
      }),
  },
  'unread-pages': {
    does: '25 connections for 40 MB each, which read nothing',
    run: (url, count, signal) =>
      repeatedly(25, 1_000, signal, async () => {
        const pace = { bytes: 0, everyMs: 1_000 }
        count(await readSlowly(url, '/collections/bigpoly/items?limit=100', '203.0.113.3', pace, signal))
      }),
  },
  'html-pages': {
    does: 'four connections for HTML pages of 1,000 polygons, with a number of 20 digits in each',
    run: (url, count, signal) =>
      repeatedly(4, 200, signal, async () =>
        count(await read(`${url}/collections/bigpoly/items?f=html&limit=1000`, '203.0.113.4')),
      ),
  },
  loris: {
    does: '100 connections that send a header line every five seconds and never finish',
    run: (url, count, signal) => repeatedly(100, 1_000, signal, async () => count(await drip(url, signal))),
  },
  expensive: {
    does: '32 connections that sort 300,000 rows by two columns without an index',
    async run(url, count, signal) {
      const agent = new Agent({ keepAlive: true, maxSockets: 32 })
      const path = '/collections/mill/items?limit=1000&offset=100000&sortby=a,b'
      await each(32, async () => {
        while (!signal.aborted) {
          const outcome = await read(`${url}${path}`, '203.0.113.5', agent)
          count(outcome)
          if (outcome !== '200') await pause(100, signal)
        }
      })
      agent.destroy()
    },
  },
}

const drip = (url: string, signal: AbortSignal) =>
  new Promise<string>((resolve) => {
    const { hostname, port } = new URL(url)
    const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true })
    const startedAt = performance.now()
    let status = ''
    const timer = setInterval(() => socket.write('x-b: c\r\n'), 5_000)
    const end = () => socket.destroy()
    signal.addEventListener('abort', end)
    socket
      .on('data', (chunk) => {
        status ||= chunk.toString('latin1').slice(9, 12)
      })
      .on('error', () => {})
      .on('close', () => {
        clearInterval(timer)
        signal.removeEventListener('abort', end)
        const seconds = Math.round((performance.now() - startedAt) / 10_000) * 10
        resolve(signal.aborted ? 'still open' : `${status || 'no answer'}, closed after ${seconds} s`)
      })
    socket.write('GET / HTTP/1.1\r\nhost: a\r\n')
  })
