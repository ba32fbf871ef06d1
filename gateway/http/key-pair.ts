// Owns the certificate and the key of the gateway: read from their files together, and again when these change.

import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import { UserError } from '../errors.ts'
import type { Emit } from '../events.ts'

export type KeyPairFiles = {
  /** File with the certificate, and after it those of intermediate authorities, in PEM. */
  readonly certificate: string
  /** File with its key, in PEM. */
  readonly key: string
}

export type KeyPair = { readonly cert: Buffer; readonly key: Buffer }

/**
 * Interval at which the files are read. Their content decides, and no notification: certbot and Kubernetes replace what a
 * symbolic link on the way leads to, and file systems of networks notify nobody.
 */
const LOOK_MS = 2_000

/**
 * Reads a certificate and its key.
 * @throws UserError naming the file, and what is wrong with it
 */
export async function readKeyPair(files: KeyPairFiles): Promise<KeyPair> {
  const pair = await readFiles(files)
  check(pair, files)
  return pair
}

async function readFiles({ certificate, key }: KeyPairFiles): Promise<KeyPair> {
  const read = (file: string) =>
    readFile(file).catch((cause: Error) => {
      throw new UserError(`${file} cannot be read: ${cause.message}.`, { cause })
    })
  return { cert: await read(certificate), key: await read(key) }
}

/** Returns the certificate of a pair that a server can use. @throws UserError */
function check(pair: KeyPair, files: KeyPairFiles): X509Certificate {
  const certificate = parse(files.certificate, 'a certificate in PEM', () => new X509Certificate(pair.cert))
  const key = parse(files.key, 'a private key in PEM without a passphrase', () => createPrivateKey(pair.key))
  if (!certificate.checkPrivateKey(key))
    throw new UserError(`The key in ${files.key} is not that of the certificate in ${files.certificate}.`)
  // OpenSSL refuses keys that are too short, and reads the certificates after the first one.
  parse(files.certificate, 'a certificate that TLS can use', () => createSecureContext(pair))
  return certificate
}

function parse<T>(file: string, what: string, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    throw new UserError(`${file} has to be ${what}: ${(cause as Error).message}.`, { cause })
  }
}

/**
 * Calls `use` with each new pair that the files have. A pair that cannot be used changes nothing, and is logged once.
 * @param current the pair in use
 * @returns a function that ends it
 */
export function watchKeyPair(
  files: KeyPairFiles,
  current: KeyPair,
  use: (pair: KeyPair) => void,
  emit: Emit,
): () => void {
  let faults = 0
  const look = async () => {
    try {
      const found = await readFiles(files)
      if (found.cert.equals(current.cert) && found.key.equals(current.key)) {
        faults = 0
        return
      }
      const { subject, validTo } = check(found, files)
      if (Date.parse(validTo) < Date.now())
        throw new UserError(`The certificate in ${files.certificate} ended on ${validTo}.`)
      faults = 0
      current = found
      use(found)
      emit({ type: 'certificate-loaded', subject: subject.replaceAll('\n', ', '), ends: validTo })
    } catch (error) {
      // Files that are written one after the other do not fit each other for a moment.
      faults += 1
      if (faults === 2) emit({ type: 'certificate-refused', error: error as Error })
    }
  }
  let timer: NodeJS.Timeout | undefined
  const plan = () => {
    timer = setTimeout(async () => {
      await look()
      if (timer) plan()
    }, LOOK_MS).unref()
  }
  plan()
  return () => {
    clearTimeout(timer)
    timer = undefined
  }
}
