// Owns the cluster's secrets: passwords, and certificates of its own authority. They are created once, and only their
// owner can read them.

import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { access, chmod, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Roles in PostgreSQL, each with a password. */
export const ROLES = [
  'postgres',
  'replicator',
  'rewinder',
  'tessera_owner',
  'tessera_write',
  'tessera_read',
] as const
export type Role = (typeof ROLES)[number]

export type CertificateFiles = {
  readonly authorityFile: string
  readonly certificateFile: string
  readonly keyFile: string
}

export type Credentials = CertificateFiles & {
  readonly passwords: Readonly<Record<Role, string>>
  /** Password of requests that change the cluster through Patroni's REST interface. */
  readonly patroniPassword: string
}

export const certificateFilesIn = (folder: string): CertificateFiles => ({
  authorityFile: join(folder, 'ca.crt'),
  certificateFile: join(folder, 'server.crt'),
  keyFile: join(folder, 'server.key'),
})

const PASSWORD_BYTES = 24
/** Ten years, so that nobody has to remember to renew the certificates of a cluster. */
const CERTIFICATE_DAYS = 3_650

/**
 * Opens the secrets in a folder, and creates them first if they are missing.
 * @param folder created if it is missing; only its owner can enter it
 * @param hosts names or addresses under which clients connect, and for which the certificate is valid
 */
export async function openCredentials(folder: string, hosts: readonly string[]): Promise<Credentials> {
  const file = (name: string) => join(folder, name)
  const passwordsFile = file('passwords.json')
  // This file is created last: if it exists, everything exists.
  const isMade = await access(passwordsFile).then(
    () => true,
    () => false,
  )
  if (!isMade) {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await chmod(folder, 0o700)
    await makeCertificates(folder, hosts)
    const names = [...ROLES, 'patroni']
    const made = Object.fromEntries(
      names.map((name) => [name, randomBytes(PASSWORD_BYTES).toString('base64url')]),
    )
    await writeFile(`${passwordsFile}.new`, JSON.stringify(made, null, 2), { mode: 0o600 })
    await rename(`${passwordsFile}.new`, passwordsFile)
  }
  const { patroni, ...passwords } = JSON.parse(await readFile(passwordsFile, 'utf8'))
  return { passwords, patroniPassword: patroni, ...certificateFilesIn(folder) }
}

async function makeCertificates(folder: string, hosts: readonly string[]) {
  const openssl = (...args: string[]) => run('openssl', args, { cwd: folder })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-noenc']
  const days = ['-days', String(CERTIFICATE_DAYS)]
  // Each certificate states its purpose: Python from 3.13 on and other strict verifiers accept no others.
  const authority = ['-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=Tessera cluster']
  const signs = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,cRLSign']
  await openssl('req', '-x509', ...key, ...days, ...authority, ...extensionsOf(signs))
  const kinds = hosts.map((host) => `${isIP(host) ? 'IP' : 'DNS'}:${host}`)
  const server = ['-keyout', 'server.key', '-out', 'server.crt', '-subj', '/CN=Tessera node']
  const serves = [`subjectAltName=${kinds.join(',')}`, 'basicConstraints=critical,CA:FALSE']
  const signed = ['-CA', 'ca.crt', '-CAkey', 'ca.key']
  await openssl('req', '-x509', ...signed, ...key, ...days, ...server, ...extensionsOf(serves))
  // Nothing is signed again, so the authority's key is not kept.
  await rm(join(folder, 'ca.key'))
  await chmod(join(folder, 'server.key'), 0o600)
}

const extensionsOf = (extensions: readonly string[]) =>
  extensions.flatMap((extension) => ['-addext', extension])

/** Renders a passfile for libpq, and for programs that use it: the password of each role on every server. */
export const renderPassfile = ({ passwords }: Credentials) =>
  `${ROLES.map((role) => `*:*:*:${role}:${passwords[role]}`).join('\n')}\n`
