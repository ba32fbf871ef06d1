// Tests the settings of a store of backups, and that messages about them show no secret.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseStore, storeOptions } from '../../database/backup-store.ts'
import { EmbeddedError } from '../../database/embedded-server.ts'

const TEXT = `# of the backups
endpoint=https://s3.example.org:9000
region = eu-central-1
key=AKIAEXAMPLE
secret=hunter2
`
const parse = (text: string, address = 's3://backups/roads/north') => parseStore(address, 's3.conf', text)

test('an address and its file become the options of pgBackRest', () => {
  assert.deepEqual(storeOptions(parse(TEXT), undefined), {
    'repo1-type': 's3',
    'repo1-path': '/roads/north',
    'repo1-s3-bucket': 'backups',
    'repo1-s3-endpoint': 's3.example.org',
    'repo1-storage-port': '9000',
    'repo1-s3-region': 'eu-central-1',
    'repo1-s3-key': 'AKIAEXAMPLE',
    'repo1-s3-key-secret': 'hunter2',
    'repo1-s3-uri-style': 'path',
  })
  const options = storeOptions(
    parse(`${TEXT}ca=ca.pem\nstyle=host\n`.replace(':9000', '')),
    '/run/store-ca.pem',
  )
  assert.deepEqual(
    [options['repo1-storage-port'], options['repo1-s3-uri-style'], options['repo1-storage-ca-file']],
    ['443', 'host', '/run/store-ca.pem'],
  )
})

test('what is wrong is named, and no value is shown', () => {
  const refuse = (pattern: RegExp, ...given: Parameters<typeof parse>) =>
    assert.throws(
      () => parse(...given),
      (error: Error) =>
        error instanceof EmbeddedError && pattern.test(error.message) && !error.message.includes('hunter2'),
    )
  refuse(/^s3:\/\/backups: must be a bucket and a path in it, as in s3:/, TEXT, 's3://backups')
  refuse(/must be a bucket and a path/, TEXT, 's3://backups/../other ones')
  refuse(/^s3\.conf: region must be a region such as/, TEXT.replace(/region.*\n/, ''))
  refuse(/^s3\.conf: endpoint must be an https URL/, TEXT.replace('https', 'http'))
  refuse(/^s3\.conf: endpoint must be an https URL/, TEXT.replace(':9000', ':9000/backups'))
  refuse(/^s3\.conf: style must be path or host/, `${TEXT}style=other\n`)
  refuse(
    /^s3\.conf, line 5: must be NAME=VALUE with a NAME of endpoint, region/,
    TEXT.replace('secret=', 'password='),
  )
  refuse(/^s3\.conf, line 6: .* each once/, `${TEXT}secret=hunter2\n`)
  refuse(/^s3\.conf, line 5/, TEXT.replace('hunter2', 'hunter2 and more'))
})
