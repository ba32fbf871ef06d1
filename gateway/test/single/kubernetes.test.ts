// Tests the manifests for Kubernetes: they are valid for its API, and what they name is there.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { settings, variableOf } from '../../config.ts'
import { needsReaders, python } from '../support/python.ts'

const file = join(import.meta.dirname, '../../../deploy/kubernetes/tessera.yaml')
const text = readFileSync(file, 'utf8')

/** Checks each manifest against the schemas of an old and a new release, in which unknown members are errors. */
const PROGRAM = `
import sys
import kubernetes_validate
import yaml
for manifest in yaml.safe_load_all(open(sys.argv[1])):
    for release in sys.argv[2:]:
        kubernetes_validate.validate(manifest, release, strict=True)
    print(manifest["kind"])
`

test('the manifests are valid for Kubernetes', needsReaders, async () => {
  const { stdout } = await promisify(execFile)(python!, ['-c', PROGRAM, file, '1.27', '1.37'])
  assert.deepEqual(stdout.trim().split('\n'), ['Deployment', 'Service', 'PodDisruptionBudget', 'Job'])
})

test('the manifests name settings and paths that exist', () => {
  const names = Object.keys(settings).map(variableOf)
  const variables = [...text.matchAll(/name: (TESSERA_\w+)/g)].map(([, name]) => name!.replace(/_FILE$/, ''))
  assert.ok(variables.length > 4)
  for (const variable of variables) assert.ok(names.includes(variable), variable)
  const { paths } = JSON.parse(
    readFileSync(join(import.meta.dirname, '../../../openapi/openapi.json'), 'utf8'),
  )
  for (const [, path] of text.matchAll(/ path: (\S+)/g)) assert.ok(paths[path!], path)
})
