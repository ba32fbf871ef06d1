// Tests settings from the environment and from flags, and the errors of invalid values.

import assert from 'node:assert/strict'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { ConfigError, checkExposure, readConfig } from '../../config.ts'

const read = (args: string[], environment: Record<string, string> = {}) =>
  readConfig(args, {}, environment).config

test('flags win over the environment, the environment over defaults', () => {
  assert.equal(read([]).port, 8080)
  assert.equal(read([], { TESSERA_PORT: '81' }).port, 81)
  assert.equal(read(['--port', '82'], { TESSERA_PORT: '81' }).port, 82)
})

test('the gateway listens on loopback by default', () => {
  assert.equal(read([]).host, '127.0.0.1')
})

test('an invalid value is reported with its variable, the value and what is allowed', () => {
  const tell = (pattern: RegExp, work: () => unknown) =>
    assert.throws(work, (error: Error) => error instanceof ConfigError && pattern.test(error.message))
  tell(/^TESSERA_PORT=abc: must be an integer from 0 to 65535\.$/, () => read([], { TESSERA_PORT: 'abc' }))
  tell(/^--port=70000: must be an integer/, () => read(['--port=70000']))
  tell(/^TESSERA_LOG_LEVEL=loud: must be trace, debug/, () => read([], { TESSERA_LOG_LEVEL: 'loud' }))
  tell(/^TESSERA_PUBLIC_URL=ftp:\/\/x: must be an http/, () => read([], { TESSERA_PUBLIC_URL: 'ftp://x' }))
  tell(/^TESSERA_TRUST_PROXY=1\.2\.3: must be addresses/, () => read([], { TESSERA_TRUST_PROXY: '1.2.3' }))
  tell(/^TESSERA_CRS=25832: must be codes such as EPSG:25832/, () => read([], { TESSERA_CRS: '25832' }))
  tell(/^TESSERA_OIDC_ISSUER=http:\/\/login\.example: must be https URLs/, () =>
    read([], { TESSERA_OIDC_ISSUER: 'http://login.example' }),
  )
  tell(/Unknown option '--prot'/, () => read(['--prot=1']))
})

test('beyond loopback, a gateway needs TLS, a trusted proxy elsewhere, or permission', () => {
  const beyond = '--host=0.0.0.0'
  const pair = ['--tls-certificate=/c', '--tls-key=/k']
  for (const args of [
    [],
    ['--host=::1'],
    ['--host=localhost'],
    [beyond, ...pair],
    [beyond, '--trust-proxy=loopback,uniquelocal'],
    [beyond, '--trust-proxy=10.0.0.0/8'],
  ])
    assert.equal(checkExposure(read(args)), true, args.join(' '))
  assert.equal(checkExposure(read([beyond, '--insecure'])), false)
  for (const args of [
    [beyond],
    ['--host=geo.example.org'],
    [beyond, '--trust-proxy=none'],
    [beyond, '--trust-proxy=127.0.0.0/8,::1'],
  ])
    assert.throws(() => checkExposure(read(args)), /without TLS/, args.join(' '))
  assert.throws(() => checkExposure(read(pair.slice(1))), /must be set together/)
})

test('the former name of a setting is refused with its present name', () => {
  const refuse = (work: () => unknown, message: string) =>
    assert.throws(work, (error: Error) => error instanceof ConfigError && error.message === message)
  refuse(() => read([], { TESSERA_WORKERS: '2' }), 'TESSERA_WORKERS is called TESSERA_PROCESSES now.')
  refuse(() => read(['--workers=2']), '--workers is called --processes now.')
})

test('a secret is not shown, not even an invalid one', () => {
  assert.throws(
    () => read([], { TESSERA_READ_URL: 'mysql://me:hunter2@host/db' }),
    (error: Error) =>
      !error.message.includes('hunter2') && /TESSERA_READ_URL=\(not shown\)/.test(error.message),
  )
})

test('a key in the place of its file is not shown', () => {
  assert.throws(
    () => read([], { TESSERA_TLS_KEY: '-----BEGIN PRIVATE KEY-----\nhunter2' }),
    /^Error: TESSERA_TLS_KEY=\(not shown\): must be the path of a file\.$/,
  )
})

test('a value can come from a file, but not from a file and a variable at once', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'tessera-test-')), 'url')
  writeFileSync(file, 'postgresql://me:secret@host/db\n')
  assert.equal(read([], { TESSERA_READ_URL_FILE: file }).readUrl, 'postgresql://me:secret@host/db')
  const both = 'postgresql://me@one/db,postgresql://me@two/db'
  assert.equal(read([], { TESSERA_READ_URL: both }).readUrl, both)
  const commas = 'postgresql://me:pa,ss@one/db?options=-c%20search_path=a,b'
  assert.equal(read([], { TESSERA_READ_URL: commas }).readUrl, commas)
  assert.throws(
    () => read([], { TESSERA_READ_URL: 'postgresql://me@one/db,two' }),
    /must be a PostgreSQL URL/,
  )
  assert.throws(
    () => read([], { TESSERA_READ_URL_FILE: file, TESSERA_READ_URL: 'postgresql://x/y' }),
    /both set/,
  )
  assert.throws(
    () => read([], { TESSERA_READ_URL_FILE: '/nowhere' }),
    /TESSERA_READ_URL_FILE=\/nowhere: cannot be read/,
  )
})

test('flags that are true or false accept --no-', () => {
  assert.equal(read([]).demo, undefined)
  assert.equal(read(['--no-demo']).demo, false)
  assert.equal(read([], { TESSERA_DEMO: 'true' }).demo, true)
})
