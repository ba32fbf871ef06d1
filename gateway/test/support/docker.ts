// Owns Docker for tests: whether it is available, and one Compose project that is removed at the end.
// All runs use the same project name, so that each removes what a killed run has left behind: those containers would
// start again with the engine and slow down the next run.

import { execFile, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { after } from 'node:test'
import { promisify } from 'node:util'

const run = promisify(execFile)
const root = join(import.meta.dirname, '../../..')
const NAME = 'tessera-test'

const works = (...args: string[]) => spawnSync('docker', args, { stdio: 'ignore' }).status === 0

/** @returns false if everything is available; otherwise the reason to skip the tests, which is also printed */
export function whyNoContainers(baseImages: readonly string[]): string | false {
  const missing = [
    ...(works('info') ? [] : ['a Docker engine that runs']),
    ...(works('compose', 'version') ? [] : ['Docker Compose']),
    ...baseImages
      .filter((image) => !works('image', 'inspect', image))
      .map((image) => `the image ${image} (docker pull ${image})`),
  ]
  if (missing.length === 0) return false
  const reason = `SKIPPED: these containers were not tested; missing: ${missing.join(', ')}`
  process.stderr.write(`\n*** ${reason} ***\n\n`)
  return reason
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  return port
}

export type Project = {
  /** URL at which its gateway is published. */
  readonly url: string
  /** URL of the statistics of the first HAProxy, if the project has one. */
  readonly statisticsUrl: string
  /** Runs `docker compose …` for this project. @returns its output */
  compose(...args: string[]): Promise<string>
  /** Runs `docker …` on the container of a service. */
  docker(command: readonly string[], service: string, ...rest: readonly string[]): Promise<string>
  /** @returns the engine and Compose, with their versions */
  describeEngine(): Promise<string>
}

/** @param skip result of whyNoContainers; with a reason to skip nothing is removed */
export async function openProject(file: string, skip: string | false): Promise<Project> {
  const ports = Object.fromEntries(
    await Promise.all(
      ['TESSERA_PORT', 'TESSERA_PORT_2', 'TESSERA_STATISTICS_PORT', 'TESSERA_STATISTICS_PORT_2'].map(
        async (variable) => [variable, String(await findFreePort())] as const,
      ),
    ),
  )
  const ask = async (...args: string[]) => {
    const env = { ...process.env, ...ports }
    const { stdout } = await run('docker', args, { cwd: root, env, maxBuffer: 1 << 26 })
    return stdout
  }
  const compose = (...args: string[]) => ask('compose', '--file', file, '--project-name', NAME, ...args)
  // By the name alone, without the file: what is left may come from another Compose file.
  const remove = () => ask('compose', '--project-name', NAME, 'down', '--volumes', '--timeout', '40')
  if (!skip) {
    await remove()
    after(remove)
  }
  return {
    url: `http://127.0.0.1:${ports.TESSERA_PORT}`,
    statisticsUrl: `http://127.0.0.1:${ports.TESSERA_STATISTICS_PORT}`,
    compose,
    docker: (command, service, ...rest) => ask(...command, `${NAME}-${service}-1`, ...rest),
    async describeEngine() {
      const engine = await ask('version', '--format', '{{.Server.Version}}')
      return `Docker ${engine.trim()}, Compose ${(await compose('version', '--short')).trim()}`
    },
  }
}
