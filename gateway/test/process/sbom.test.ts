// Tests the list of all packages that a gateway consists of (SBOM, CycloneDX): `npm run sbom` writes it for scanners.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

const root = join(import.meta.dirname, '../../..')
const read = (file: string) => JSON.parse(readFileSync(join(root, file), 'utf8'))

type Locked = {
  readonly version: string
  readonly integrity?: string
  readonly dev?: true
  readonly link?: true
}
type Component = {
  readonly name: string
  readonly version: string
  readonly purl: string
  readonly hashes?: object[]
  readonly properties: readonly { readonly name: string }[]
}

test('the SBOM has every package for serving, with its version and its hash, and marks those for tests', () => {
  const text = execFileSync('npm', ['run', '--silent', 'sbom'], { cwd: root, encoding: 'utf8' })
  const sbom = JSON.parse(text)
  assert.equal(sbom.bomFormat, 'CycloneDX')
  const components = sbom.components as Component[]
  const named = (list: readonly { name: string; version: string }[]) =>
    [...new Set(list.map(({ name, version }) => `${name}@${version}`))].sort()
  const { packages } = read('package-lock.json') as { packages: Record<string, Locked> }
  const locked = Object.entries(packages)
    .filter(([path, { dev, link }]) => path.includes('node_modules/') && !dev && !link)
    .map(([path, { version }]) => ({ name: path.split('node_modules/').at(-1)!, version }))
  // Without those for tests, npm would also leave out packages that serving and tests have in common.
  const isForTests = ({ properties }: Component) =>
    properties.some(({ name }) => name === 'cdx:npm:package:development')
  const listed = components.filter((one) => one.hashes && !isForTests(one))
  assert.deepEqual(named(listed), named(locked))
  const { dependencies } = read('package.json') as { dependencies: Record<string, string> }
  for (const [name, version] of Object.entries(dependencies))
    assert.ok(
      components.some((one) => one.name === name && one.version === version && one.hashes!.length > 0),
      `${name}@${version}`,
    )
})
