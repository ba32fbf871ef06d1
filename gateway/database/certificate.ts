// Owns looking at the certificates of servers: until when those that they show are valid, and the files that URLs name.

import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { connect as connectTcp } from 'node:net'
import { connect as connectTls } from 'node:tls'

export type Certificate = { readonly subject: string; readonly endsMs: number }

const TIMEOUT_MS = 3_000
/** What a client of PostgreSQL sends first if it wants TLS; the server answers with S or N. */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])

/**
 * Returns the certificate that a server shows, whether or not anybody would trust it.
 * @param protocol how TLS begins there
 * @returns undefined if the server has none
 * @throws if nothing answers in time
 */
export async function readCertificate(
  host: string,
  port: number,
  protocol: 'postgresql' | 'https',
): Promise<Certificate | undefined> {
  const signal = AbortSignal.timeout(TIMEOUT_MS)
  const socket = connectTcp({ host, port })
  try {
    await once(socket, 'connect', { signal })
    if (protocol === 'postgresql') {
      socket.write(SSL_REQUEST)
      const [answer] = (await once(socket, 'data', { signal })) as [Buffer]
      if (answer.toString('latin1') !== 'S') return undefined
    }
    // Looked at, not trusted: a certificate that has ended must be seen, too.
    const secured = connectTls({
      socket,
      rejectUnauthorized: false,
      ...(/[a-z]/i.test(host) ? { servername: host } : {}),
    })
    await once(secured, 'secureConnect', { signal })
    const { raw } = secured.getPeerCertificate()
    return raw && describe(new X509Certificate(raw))
  } finally {
    socket.on('error', () => {})
    socket.destroy()
  }
}

/** Parameters of a URL that name files with certificates. */
const FILES = ['sslcert', 'sslrootcert'] as const

/** Returns the certificates in the files that a URL names. @throws if one cannot be read */
export async function readCertificateFiles(
  url: string,
): Promise<readonly (Certificate & { readonly file: string })[]> {
  const parameters = new URLSearchParams(url.split('?', 2)[1])
  const files = FILES.flatMap((name) => parameters.get(name) ?? []).filter((file) => file !== 'system')
  return Promise.all(files.map(async (file) => ({ file, ...(await readCertificateFile(file)) })))
}

/** Returns the first certificate in a file. @throws if it cannot be read */
export const readCertificateFile = async (file: string): Promise<Certificate> =>
  describe(new X509Certificate(await readFile(file)))

const describe = ({ subject, validTo }: X509Certificate): Certificate => ({
  subject: subject.split('\n').at(-1)!,
  endsMs: Date.parse(validTo),
})
