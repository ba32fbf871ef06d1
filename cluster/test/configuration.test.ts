// Tests that a member whose disk is full keeps the configuration of its PostgreSQL.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { findPlace, findPrograms } from '../place.ts'
import { whyNot } from './requirements.ts'

/** Runs Python with the module of guarded-patroni.py as `guarded`, and a configuration without a PostgreSQL. */
const runPython = (code: string, ...args: readonly string[]) =>
  execFileSync(
    findPrograms(findPlace(undefined, {})).python,
    [
      '-c',
      `import importlib.util, sys
spec = importlib.util.spec_from_file_location('guarded', ${JSON.stringify(join(import.meta.dirname, '../node/guarded-patroni.py'))})
guarded = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guarded)
configuration = object.__new__(guarded.Configuration)
configuration.set_file_permissions = lambda _: None
${code}`,
      ...args,
    ],
    { encoding: 'utf8' },
  ).trim()

test('a file that cannot be written leaves the one before', { skip: whyNot(false) }, (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tessera-configuration-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'postgresql.conf')
  writeFileSync(file, 'before')
  const write = (line: string) =>
    runPython(
      `try:
    with configuration.config_writer(sys.argv[1]) as writer:
        writer.writeline('after')
        ${line}
except OSError as error:
    print(error)`,
      file,
    )
  assert.match(write("raise OSError(28, 'No space left on device')"), /No space left/)
  assert.equal(readFileSync(file, 'utf8'), 'before')
  assert.equal(write('pass'), '')
  assert.match(readFileSync(file, 'utf8'), /after\n$/)
})

test('names of synchronous secondaries that were not written are written again', {
  skip: whyNot(false),
}, () => {
  const names = runPython(`from types import SimpleNamespace
from patroni.postgresql.misc import PostgresqlState
configuration._server_parameters = {'synchronous_standby_names': 'a'}
configuration._postgresql = SimpleNamespace(state=PostgresqlState.RUNNING, reload=lambda: None)
def fail():
    raise OSError(28, 'No space left on device')
configuration.write_postgresql_conf = fail
try:
    configuration.set_synchronous_standby_names('b')
except OSError:
    pass
configuration.write_postgresql_conf = lambda: None
print(configuration._server_parameters['synchronous_standby_names'], configuration.set_synchronous_standby_names('b'))`)
  assert.equal(names, 'a True')
})
