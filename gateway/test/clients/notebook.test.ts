// Tests the notebook with geopandas: all of it runs in a fresh kernel, and its texts are those that are committed.

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { executeNotebook, NOTEBOOK } from '../../../examples/notebook/execute.ts'
import { startGateway } from '../support/gateway.ts'

type Notebook = {
  cells: { source: string[]; outputs?: { text?: string[]; data?: Record<string, string | string[]> }[] }[]
}

const { client } = await startGateway()
const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
after(() => rmSync(folder, { recursive: true, force: true }))

/** Returns the texts that each cell shows; of a picture, only that there is one. */
function shownBy(file: string) {
  const { cells } = JSON.parse(readFileSync(file, 'utf8')) as Notebook
  return cells.map(({ source, outputs = [] }) => [
    source.join(''),
    ...outputs.map(({ text, data }) =>
      data?.['image/png']
        ? 'a picture'
        : (text ?? ([] as string[]).concat(data?.['text/plain'] ?? [])).join(''),
    ),
  ])
}

test('the notebook shows what is committed', async () => {
  const output = join(folder, 'cities.ipynb')
  await executeNotebook(client.url, output)
  assert.deepEqual(shownBy(output), shownBy(NOTEBOOK))
  const pictures = JSON.stringify(shownBy(output)).match(/a picture/g)
  assert.equal(pictures?.length, 2)
})
