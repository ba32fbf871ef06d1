// Owns what the benchmark needs to know about a server, and how one is found, started and watched. A further peer is one
// file that exports a `Peer`, and its place in the list of `peers.ts`.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, readdirSync, readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { basename, delimiter, isAbsolute, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type HttpRequest, send } from '../measure.ts'
import type { Ask } from './ask.ts'

export type Peer = {
  readonly name: string
  /** Name of the program that starts it, or its path. */
  readonly program: string
  /** @returns undefined if the program is another one of this name */
  readonly versionOf: (program: string) => Promise<string | undefined>
  readonly command: (to: { readonly port: number; readonly socket: string }) => Command
  /** A path that it answers as soon as it serves. */
  readonly firstPath: string
  /** @returns undefined if it cannot do this */
  readonly requestOf: (ask: Ask) => HttpRequest | undefined
  /** Reads a table to its end in pages. */
  readonly paging?: (table: string, limit: number) => Walk
  /** Reads a table to its end as fast as it can. */
  readonly export?: (table: string) => Walk
  /** True if it finds the keys of the collections that Tessera's import created. */
  readonly readsManaged?: boolean
  /** True if it must be started again before each turn. */
  readonly startsEachTurn?: boolean
}

export type Command = {
  readonly args: readonly string[]
  readonly environment: Readonly<Record<string, string>>
}

/** A way to the end of a table. */
export type Walk = {
  readonly first: string
  /** Returns the path of the page after this one, undefined after the last. */
  readonly next: (page: { readonly text: string; readonly features: number }) => string | undefined
}

/** Folders with programs, or programs, of peers. */
export const PEERS_VARIABLE = 'TESSERA_BENCH_PEERS'

/** Finds a program in the folders and files of `TESSERA_BENCH_PEERS`, and then in the PATH. */
export function findProgram(name: string): string | undefined {
  if (isAbsolute(name)) return name
  const places = [process.env[PEERS_VARIABLE], process.env.PATH].flatMap(
    (list) => list?.split(delimiter) ?? [],
  )
  return places
    .filter(Boolean)
    .map((place) => (basename(place) === name && !isFolder(place) ? place : join(place, name)))
    .find(isProgram)
}

const isFolder = (path: string) => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
function isProgram(path: string) {
  try {
    accessSync(path, constants.X_OK)
    return !isFolder(path)
  } catch {
    return false
  }
}

export type Running = {
  readonly url: string
  readonly processId: number
  /** Time from the start of the program to its first answer. */
  readonly startMs: number
  readonly stop: () => Promise<void>
}

const START_TIMEOUT_MS = 60_000
/** Time after which a server that does not stop is killed, with its processes. */
const STOP_TIMEOUT_MS = 5_000

/** Starts a peer on a free port; its output is discarded. */
export async function startPeer(peer: Peer, program: string, socket: string): Promise<Running> {
  const port = await findPort()
  const url = `http://127.0.0.1:${port}`
  const { args, environment } = peer.command({ port, socket })
  const start = performance.now()
  const env = { ...process.env, ...environment }
  const child = spawn(program, args, { cwd: '/', env, stdio: 'ignore' })
  await once(child, 'spawn')
  while (!(await answers(url, peer.firstPath))) {
    if (child.exitCode === null && performance.now() - start < START_TIMEOUT_MS) continue
    await stop(child)
    throw new Error(`${peer.name} did not start: ${program} ${args.join(' ')}`)
  }
  const startMs = performance.now() - start
  return { url, processId: child.pid!, startMs, stop: () => stop(child) }
}

const answers = (url: string, path: string) =>
  send(url, { path }).then(
    ({ status }) => status === 200 || sleep(5, false),
    () => sleep(5, false),
  )

async function stop(child: ChildProcess) {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  const tree = processesOf(child.pid!)
  child.kill('SIGTERM')
  await Promise.race([exited, sleep(STOP_TIMEOUT_MS, undefined, { ref: false })])
  if (child.exitCode !== null || child.signalCode !== null) return
  for (const id of tree) process.kill(id, 'SIGKILL')
  await exited
}

async function findPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

/** @property total of all processes, in MB: memory that several of them share counts once */
export type Memory = { readonly total: number; readonly largest: number; readonly processes: number }

/** Returns the memory of a process and its descendants. */
export function memoryOf(processId: number): Memory {
  const all = processesOf(processId).flatMap((id) => {
    // A process may have ended meanwhile.
    const text = readProc(`${id}/smaps_rollup`)
    const megabytes = (name: string) => Number(new RegExp(`^${name}: +(\\d+)`, 'm').exec(text)?.[1]) / 1_000
    return text.includes('Pss:') ? [{ own: megabytes('Rss'), share: megabytes('Pss') }] : []
  })
  return {
    total: all.reduce((sum, { share }) => sum + share, 0),
    largest: Math.max(...all.map(({ own }) => own)),
    processes: all.length,
  }
}

const SAMPLE_MS = 100
const PAGE_BYTES = 4_096

/** Watches the memory of a process and its descendants. @returns a function that ends this and returns the MB added */
export function watchGrowth(processId: number): () => number {
  const resident = residentOf(processId)
  const before = resident()
  let most = before
  const timer = setInterval(() => {
    most = Math.max(most, resident())
  }, SAMPLE_MS)
  return () => {
    clearInterval(timer)
    return Math.max(most, resident()) - before
  }
}

/** Returns a function that returns the resident MB of a process and of those that descend from it now. */
export function residentOf(processId: number): () => number {
  const processes = processesOf(processId)
  // Unlike `smaps_rollup` this costs the measured processes nothing.
  return () =>
    processes.reduce(
      (sum, id) => sum + (Number(readProc(`${id}/statm`).split(' ')[1] ?? 0) * PAGE_BYTES) / 1e6,
      0,
    )
}

function processesOf(root: number): number[] {
  const children = new Map<number, number[]>()
  for (const id of readdirSync('/proc').map(Number).filter(Boolean)) {
    // The name of the program, in brackets, may contain anything.
    const parent = Number(readProc(`${id}/stat`).split(') ').at(-1)!.split(' ')[1])
    children.set(parent, [...(children.get(parent) ?? []), id])
  }
  const tree = (id: number): number[] => [id, ...(children.get(id) ?? []).flatMap(tree)]
  return tree(root)
}

function readProc(path: string) {
  try {
    return readFileSync(join('/proc', path), 'utf8')
  } catch {
    return ''
  }
}

/** Returns the target of the link to the next page in a document of OGC API Features. */
export function nextLink(text: string): string | undefined {
  const [link] = /\{[^{}]*"rel": ?"next"[^{}]*\}/.exec(text) ?? []
  if (!link) return undefined
  const { pathname, search } = new URL(JSON.parse(link).href)
  return pathname + search
}
