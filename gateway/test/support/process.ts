// Owns Tessera as its users start it: as a process, whose events are read from its log.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after } from 'node:test'

export const MAIN = join(import.meta.dirname, '../../main.ts')

/** Returns the environment without the variables of this run: the process gets only those that a test names. */
const cleanEnvironment = () =>
  Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(TESSERA_|NODE_TEST_CONTEXT|NODE_OPTIONS)/.test(name)),
  )

export type Tessera = {
  readonly child: ChildProcess
  readonly output: () => string
  /** Resolves with the first event of this type, past or future; rejects if the process ends before it. */
  readonly event: (type: string) => Promise<Record<string, any>>
  /** Returns the number of events of this type so far. */
  readonly count: (type: string) => number
  /** Resolves with the exit code, null if a signal ended it. */
  readonly ended: Promise<number | null>
}

export function startTessera(args: readonly string[], environment: Record<string, string> = {}): Tessera {
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { ...cleanEnvironment(), ...environment },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const events: Record<string, any>[] = []
  const waiting: {
    type: string
    resolve: (event: Record<string, any>) => void
    reject: (error: Error) => void
  }[] = []
  let output = ''
  let hasEnded = false
  for (const stream of [child.stdout!, child.stderr!]) {
    createInterface({ input: stream }).on('line', (line) => {
      output += `${line}\n`
      if (!line.startsWith('{')) return
      const event = JSON.parse(line)
      events.push(event)
      for (const wait of waiting) if (wait.type === event.msg) wait.resolve(event)
    })
  }
  const ended = once(child, 'close').then(([code]) => {
    hasEnded = true
    for (const { reject, type } of waiting) reject(new Error(`Tessera ended before ${type}:\n${output}`))
    return code as number | null
  })
  after(() => {
    if (!hasEnded) child.kill('SIGKILL')
  })
  return {
    child,
    output: () => output,
    ended,
    count: (type) => events.filter(({ msg }) => msg === type).length,
    event(type) {
      const past = events.find(({ msg }) => msg === type)
      if (past) return Promise.resolve(past)
      return new Promise((resolve, reject) => {
        if (hasEnded) reject(new Error(`Tessera ended before ${type}:\n${output}`))
        waiting.push({ type, resolve, reject })
      })
    },
  }
}

/** Runs a command to its end. */
export async function runTessera(
  args: readonly string[],
  input?: string,
  environment: Record<string, string> = {},
) {
  const tessera = startTessera(args, environment)
  tessera.child.stdin!.on('error', () => {})
  tessera.child.stdin!.end(input)
  return { code: await tessera.ended, output: tessera.output() }
}

/** Returns process id and command line of the processes whose command line has this text. */
export const processesOf = (text: string): string[] =>
  execFileSync('ps', ['-eo', 'pid=,args='], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line.includes(text) && !line.includes('ps -eo'))
