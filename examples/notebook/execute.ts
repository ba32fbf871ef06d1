// Owns `npm run notebook`: runs the notebook against a gateway, and keeps what it shows.

import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { buildWheel, makeEnvironment } from '../../openapi/python/build.ts'

const run = promisify(execFile)

export const NOTEBOOK = join(import.meta.dirname, 'cities.ipynb')
const PACKAGES = ['ipykernel==7.4.0', 'matplotlib==3.11.2', 'nbclient==0.11.0']

/** Runs the cells in a kernel of their own. Without times, so that another run changes only what has changed. */
const PROGRAM = `
import sys
import nbformat
from nbclient import NotebookClient

source, target = sys.argv[1:]
notebook = nbformat.read(source, as_version=4)
NotebookClient(notebook, timeout=300, kernel_name="python3", record_timing=False).execute()
notebook.metadata["language_info"] = {"name": "python"}
nbformat.write(notebook, target)
`

/** Runs the notebook in a fresh environment with the wheel of the client. @param output the file that gets its outputs */
export async function executeNotebook(url: string, output: string): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), 'tessera-notebook-'))
  try {
    const wheel = await buildWheel(join(work, 'dist'))
    const programs = await makeEnvironment(join(work, 'environment'), [`${wheel}[geo]`, ...PACKAGES])
    const folders = { IPYTHONDIR: join(work, 'ipython'), MPLCONFIGDIR: join(work, 'matplotlib') }
    await run(join(programs, 'python'), ['-c', PROGRAM, NOTEBOOK, output], {
      cwd: work,
      env: { ...process.env, ...folders, TESSERA_URL: url },
    })
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

if (process.argv[1] === import.meta.filename)
  await executeNotebook(process.env.TESSERA_URL ?? 'http://localhost:8080', NOTEBOOK)
