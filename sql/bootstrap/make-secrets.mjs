// Makes what containers need to know of each other, once: passwords, and the URLs that hold them.
// node make-secrets.mjs FOLDER GATEWAY_FOLDER HOST DATABASE; the second has only what a gateway needs.

import { randomBytes } from 'node:crypto'
import { chownSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const [folder, gatewayFolder, host, database] = process.argv.slice(2)

/** Who reads them: the user of Tessera's programs in the image of Node, the server's group in that of PostgreSQL. */
const TESSERA_USER = 1000
const SERVER_GROUP = 999
const NOBODY_ELSE = 0

/** @returns what the file holds: an earlier text stays */
function writeOnce(folder, name, text, user) {
  const file = join(folder, name)
  if (!existsSync(file)) {
    writeFileSync(file, text, { mode: 0o440 })
    chownSync(file, user, SERVER_GROUP)
  }
  return readFileSync(file, 'utf8')
}

const makePassword = () => randomBytes(24).toString('base64url')

writeOnce(folder, 'postgres', makePassword(), NOBODY_ELSE)
for (const role of ['tessera_owner', 'tessera_write', 'tessera_read']) {
  const name = `${role}.url`
  const made = `postgresql://${role}:${makePassword()}@${host}:5432/${database}`
  const url = writeOnce(folder, name, made, TESSERA_USER)
  if (role !== 'tessera_owner') writeOnce(gatewayFolder, name, url, TESSERA_USER)
}
