// Makes what containers need to know of each other, once: passwords, and the URLs that hold them.
// node make-secrets.mjs FOLDER HOST DATABASE

import { randomBytes } from 'node:crypto'
import { chownSync, existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const [folder, host, database] = process.argv.slice(2)

/** Who reads them: the gateway's user in the image of Node, the server's group in that of PostgreSQL. */
const GATEWAY_USER = 1000
const SERVER_GROUP = 999

function writeOnce(name, makeText) {
  const file = join(folder, name)
  if (existsSync(file)) return
  writeFileSync(file, makeText(), { mode: 0o440 })
  chownSync(file, GATEWAY_USER, SERVER_GROUP)
}

writeOnce('postgres', () => randomBytes(24).toString('base64url'))
for (const role of ['tessera_owner', 'tessera_write', 'tessera_read']) {
  const password = randomBytes(24).toString('base64url')
  writeOnce(`${role}.url`, () => `postgresql://${role}:${password}@${host}:5432/${database}`)
}
