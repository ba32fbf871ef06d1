// Owns certificates of tests, each of which is its own authority.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export type TestCertificate = {
  /** Path of the file with the certificate, and its content. */
  readonly certificate: string
  readonly cert: Buffer
  /** Path of the file with the key, and its content. */
  readonly keyFile: string
  readonly key: Buffer
}

const folder = mkdtempSync(join(tmpdir(), 'tessera-certificates-'))
process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
let count = 0

/** Makes a certificate of this machine. @param name its subject */
export function makeCertificate(name = 'localhost', days = 2): TestCertificate {
  count += 1
  const [certificate, keyFile] = [join(folder, `${count}.crt`), join(folder, `${count}.key`)]
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', String(days)]
  const names = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
  execFileSync('openssl', ['req', '-x509', ...kind, ...names, '-keyout', keyFile, '-out', certificate], {
    stdio: 'ignore',
  })
  return { certificate, cert: readFileSync(certificate), keyFile, key: readFileSync(keyFile) }
}

/** Returns the flags of a gateway that serves with it. */
export const tlsFlags = ({ certificate, keyFile }: TestCertificate) => [
  `--tls-certificate=${certificate}`,
  `--tls-key=${keyFile}`,
]
