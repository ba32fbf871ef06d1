// Owns the version that a program prints.

import { run } from '../measure.ts'

/** Returns what `--version` prints without the name of the program. Some programs end with an error after it. */
export async function printedVersion(program: string): Promise<string> {
  const { stdout } = await run(program, ['--version']).catch((error) => error as { stdout?: string })
  return /\s(\d\S*)/.exec(stdout ?? '')?.[1] ?? 'of an unknown version'
}
