// Owns Docker for tests: whether it is there, and one project of Compose that is removed at the end.
// An engine has one at a time, of one name: what a run that was killed left behind would start again with the
// engine, and take the machine from the next run.

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

/** @returns false where everything is there; else why nothing is tried, which is also said aloud */
export function whyNoContainers(baseImages: readonly string[]): string | false {
  const missing = [
    ...(works('info') ? [] : ['a Docker engine that runs']),
    ...(works('compose', 'version') ? [] : ['Docker Compose']),
    ...baseImages
      .filter((image) => !works('image', 'inspect', image))
      .map((image) => `the image ${image} (docker pull ${image})`),
  ]
  if (missing.length === 0) return false
  const reason = `SKIPPED, nothing of these containers was tried: missing ${missing.join(', ')}`
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
  /** Where its gateway is published. */
  readonly url: string
  /** The same of the first HAProxy's statistics, where it has one. */
  readonly statisticsUrl: string
  /** `docker compose …` of this project. @returns what it prints */
  compose(...args: string[]): Promise<string>
  /** `docker …` of the container that a service has. */
  docker(command: readonly string[], service: string, ...rest: readonly string[]): Promise<string>
}

/** @param skip as whyNoContainers says: then nothing has to be removed */
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
  // By its name alone: what is left may be of another file.
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
  }
}
