// Owns the settings of an S3-compatible store of backups: its address, and the file with its credentials.

import { EmbeddedError } from './embedded-server.ts'

export type Store = {
  readonly bucket: string
  /** Begins with a slash, and has no other at its end. */
  readonly path: string
  readonly endpoint: URL
  readonly region: string
  readonly key: string
  readonly secret: string
  /** File with the certificates of the authorities that are trusted; undefined for those of the system. */
  readonly ca: string | undefined
  /** Whether the bucket is the first part of the path, or of the host's name. */
  readonly style: 'path' | 'host'
}

const ADDRESS = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:\/\w[\w.-]*)+)$/

/** Returns true for the address of a store, and false for a folder. */
export const isStore = (address: string) => address.startsWith('s3://')

/** Names of the file's settings, and what each must be. */
const SETTINGS = {
  endpoint: 'an https URL such as https://s3.example.org:9000',
  region: 'a region such as eu-central-1',
  key: 'the id of an access key',
  secret: 'the secret of that key',
  ca: 'a file with certificates',
  style: 'path or host',
} as const
type Name = keyof typeof SETTINGS
const OPTIONAL: readonly string[] = ['ca', 'style'] satisfies readonly Name[]

/**
 * Reads the settings of a store: a line `name=value` for each. Pure.
 * @throws EmbeddedError with the line or the name that is wrong, and without any value, because it may be a secret
 */
export function parseStore(address: string, file: string, text: string): Store {
  const [, bucket, path] = ADDRESS.exec(address) ?? []
  if (!bucket || !path)
    throw new EmbeddedError(`${address}: must be a bucket and a path in it, as in s3://backups/roads.`)
  const found = new Map<string, string>()
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(#|$)/.test(line)) continue
    const [, name, value] = /^\s*(\w+)\s*=\s*(\S+)\s*$/.exec(line) ?? []
    if (!name || !value || !Object.hasOwn(SETTINGS, name) || found.has(name))
      throw new EmbeddedError(
        `${file}, line ${index + 1}: must be NAME=VALUE with a NAME of ${Object.keys(SETTINGS).join(', ')}, each once.`,
      )
    found.set(name, value)
  }
  const need = (name: Name, isAllowed: (value: string) => boolean = () => true): string => {
    const value = found.get(name)
    if (value !== undefined && isAllowed(value)) return value
    throw new EmbeddedError(`${file}: ${name} must be ${SETTINGS[name]}.`)
  }
  for (const name of Object.keys(SETTINGS) as Name[]) if (!OPTIONAL.includes(name)) need(name)
  const isEndpoint = (value: string) => {
    const url = URL.canParse(value) ? new URL(value) : undefined
    return url?.protocol === 'https:' && url.pathname === '/' && !url.search && !url.username
  }
  return {
    bucket,
    path,
    endpoint: new URL(need('endpoint', isEndpoint)),
    region: need('region'),
    key: need('key'),
    secret: need('secret'),
    ca: found.get('ca'),
    style: found.has('style')
      ? (need('style', (value) => value === 'path' || value === 'host') as Store['style'])
      : 'path',
  }
}

/** Returns the options with which pgBackRest reaches a store. @param ca file that its account can read */
export const storeOptions = (
  { bucket, path, endpoint, region, key, secret, style }: Store,
  ca: string | undefined,
): Readonly<Record<string, string>> => ({
  'repo1-type': 's3',
  'repo1-path': path,
  'repo1-s3-bucket': bucket,
  'repo1-s3-endpoint': endpoint.hostname,
  'repo1-storage-port': endpoint.port || '443',
  'repo1-s3-region': region,
  'repo1-s3-key': key,
  'repo1-s3-key-secret': secret,
  'repo1-s3-uri-style': style,
  ...(ca === undefined ? {} : { 'repo1-storage-ca-file': ca }),
})
