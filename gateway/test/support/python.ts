// Owns the Python whose packages read what the gateway writes: independent readers of formats, filters and systems.

import { createHash } from 'node:crypto'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { makeEnvironment } from '../../../openapi/python/build.ts'

/** pyogrio brings a newer GDAL than distributions have. */
const READERS = [
  'cql2==0.6.0',
  'geopandas==1.2.0',
  'kubernetes-validate==1.37.0',
  'owslib==0.35.0',
  'pandas==3.1.1',
  'pyarrow==26.0.1',
  'pyogrio==0.13.0',
  'pyproj==3.7.2',
  'shapely==2.2.0',
]

async function install(): Promise<string | undefined> {
  const digest = createHash('sha256').update(READERS.join()).digest('hex').slice(0, 16)
  const folder = join(import.meta.dirname, '../../../node_modules/.tessera-readers')
  const program = join(folder, 'bin', 'python')
  const stamp = join(folder, digest)
  if (existsSync(stamp)) return program
  rmSync(folder, { recursive: true, force: true })
  try {
    await makeEnvironment(folder, READERS)
  } catch (error) {
    process.stderr.write(
      `\n*** Readers of Python could not be installed: ${(error as Error).message} ***\n\n`,
    )
    return undefined
  }
  writeFileSync(stamp, '')
  return program
}

/** A Python with the readers; undefined if they could not be installed, and tests that need them must be skipped. */
export const python: string | undefined = await install()

/** Options of a test that needs the readers. */
export const needsReaders = {
  skip:
    python === undefined &&
    'SKIPPED: the readers of Python could not be installed, so none of them read anything',
}
