// Owns the sides of the benchmark: a running peer, and the floor.

import { spawn } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type HttpRequest, type Load, pgbench, send, wrk } from '../measure.ts'
import type { Ask } from './ask.ts'
import { asksOf, type Case, drawnByPgbench } from './cases.ts'
import { copyOf, psql, sqlOf } from './floor.ts'
import { type Memory, memoryOf, type Peer, type Running, startPeer, type Walk, watchGrowth } from './peer.ts'
import type { Read } from './results.ts'

export interface Side {
  readonly name: string
  can(one: Case): boolean
  /** Returns the features of the answer to one ask, as GeoJSON; an empty list for a change. */
  answer(ask: Ask): Promise<Feature[]>
  measure(one: Case, clients: number, seconds: number): Promise<Load>
  /** Reads a table to its end. @returns how many features it read; undefined if it has no such way */
  readAll(way: Read['way'], table: string): Promise<number | undefined>
}

export type Feature = {
  readonly id?: string | number
  readonly geometry: { readonly coordinates: unknown }
  readonly properties: Readonly<Record<string, unknown>>
}

/** Length of a page of `paging`. */
const PAGE = 1_000
/** Share of the time of a turn for which a side is loaded before what counts, so that compilers and caches settle. */
const WARM_SHARE = 1 / 3
const WARM_CLIENTS = 8

/** A peer that runs, and is started again when it has to be. */
export class PeerSide implements Side {
  readonly name: string
  readonly peer: Peer
  readonly starts: number[] = []
  /** Memory before the first request. */
  atRest: Memory | undefined
  /** Most memory after a turn. */
  afterLoad: Memory | undefined
  /** Most megabytes that an export added. */
  exportGrowth: number | undefined
  #program: string
  #socket: string
  #running: Running | undefined
  #warm: Case | undefined

  constructor(peer: Peer, program: string, socket: string) {
    this.name = peer.name
    this.peer = peer
    this.#program = program
    this.#socket = socket
  }

  get processId() {
    return this.#running!.processId
  }

  async start() {
    await this.stop()
    this.#running = await startPeer(this.peer, this.#program, this.#socket)
    this.#warm = undefined
    return this.#running
  }

  async stop() {
    await this.#running?.stop()
    this.#running = undefined
  }

  can = ({ growth, ask, ranges }: Case) => {
    if (growth?.isManaged && !this.peer.readsManaged) return false
    const values = Object.fromEntries(Object.entries(ranges).map(([name, [least]]) => [name, least]))
    return this.peer.requestOf(ask(values)) !== undefined
  }

  async answer(ask: Ask): Promise<Feature[]> {
    await this.#ready()
    const text = await this.#send(this.peer.requestOf(ask)!)
    if (ask.change) return []
    const body = JSON.parse(text)
    return body.features ?? [body]
  }

  async measure(one: Case, clients: number, seconds: number): Promise<Load> {
    const { url } = await this.#ready()
    const requests = asksOf(one).map((ask) => this.peer.requestOf(ask)!)
    if (this.#warm !== one) await this.#warmUp(requests, seconds * WARM_SHARE)
    this.#warm = one
    try {
      return await wrk(url, requests, clients, seconds)
    } finally {
      this.#noteMemory()
    }
  }

  /** Returns the bytes of the largest of these answers, before compression. */
  async bytesOf(asks: readonly Ask[]): Promise<number> {
    const { url } = await this.#ready()
    let largest = 0
    for (const path of new Set(asks.map((ask) => this.peer.requestOf(ask)!.path))) {
      const response = await fetch(url + path)
      if (!response.ok) throw new Error(`${response.url}: ${response.status}`)
      largest = Math.max(largest, (await response.arrayBuffer()).byteLength)
    }
    return largest
  }

  #noteMemory() {
    const now = memoryOf(this.processId)
    if (now.total > (this.afterLoad?.total ?? 0)) this.afterLoad = now
  }

  async readAll(way: Read['way'], table: string): Promise<number | undefined> {
    const walk = way === 'paging' ? this.peer.paging?.(table, PAGE) : this.peer.export?.(table)
    if (!walk) return undefined
    await this.#ready()
    const measured = way === 'export' ? watchGrowth(this.processId) : undefined
    try {
      return await this.#follow(walk)
    } finally {
      if (measured) this.exportGrowth = Math.max(this.exportGrowth ?? 0, measured())
      this.#noteMemory()
    }
  }

  async #follow({ first, next }: Walk): Promise<number> {
    let count = 0
    for (let path: string | undefined = first; path; ) {
      const text = await this.#send({ path })
      // Not parsed: reading the answers should cost little next to making them.
      const features = text.match(/"type": ?"Feature"[,}]/g)?.length ?? 0
      count += features
      path = next({ text, features })
    }
    return count
  }

  async #ready(): Promise<Running> {
    return this.#running && !this.peer.startsEachTurn ? this.#running : await this.start()
  }

  /** Sends requests and reads every answer to its end: no client leaves. */
  async #warmUp(requests: readonly HttpRequest[], seconds: number) {
    const end = performance.now() + seconds * 1_000
    let at = 0
    const client = async () => {
      while (performance.now() < end) await this.#send(requests[at++ % requests.length]!)
    }
    await Promise.all(Array.from({ length: WARM_CLIENTS }, client))
  }

  async #send(asked: HttpRequest): Promise<string> {
    const { status, text } = await send(this.#running!.url, asked)
    if (status >= 300) throw new Error(`${asked.path}: ${status} ${text}`)
    return text
  }
}

export class Floor implements Side {
  readonly name = 'floor'
  #socket: string
  #scratch: string

  constructor(socket: string, scratch: string) {
    this.#socket = socket
    this.#scratch = scratch
  }

  can = () => true

  async answer(ask: Ask): Promise<Feature[]> {
    const lines = await psql(this.#socket, sqlOf(ask))
    return lines.map((line) => JSON.parse(line))
  }

  async measure(one: Case, clients: number, seconds: number): Promise<Load> {
    const { choose, ask } = drawnByPgbench(one)
    const file = join(this.#scratch, 'floor.sql')
    await writeFile(file, `${choose}${sqlOf(ask)};\n`)
    return pgbench(file, clients, seconds, ['-h', this.#socket, '-U', 'tessera_write', 'tessera'])
  }

  /** Pages cost more than one statement of all rows, which therefore is the floor of both ways. */
  async readAll(_way: Read['way'], table: string): Promise<number> {
    const args = ['-h', this.#socket, '-U', 'tessera_read', '-c', copyOf(table), 'tessera']
    const child = spawn('psql', args, { stdio: ['ignore', 'pipe', 'inherit'] })
    let count = 0
    // A line for each feature.
    for await (const text of child.stdout.setEncoding('utf8')) count += text.split('\n').length - 1
    return count
  }
}
