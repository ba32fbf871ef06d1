// Owns values that a browser keeps for the gateways of one database, and that nobody else can read or change.
//
// A sealed value is base64url of: version (1 byte), nonce (12 bytes), the tag of AES-256-GCM (16 bytes), and the ciphertext of
// the value as compressed JSON.

import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { gatewayError } from '../../errors.ts'
import type { DatabaseKey } from '../database-key.ts'

export interface Sealer {
  /** @param purpose a value that was sealed for one purpose is nothing for another */
  seal(purpose: string, value: object): Promise<string>
  /** Returns a sealed value; undefined for any other text. */
  open(purpose: string, text: string): Promise<unknown>
}

const VERSION = 1
const NONCE_BYTES = 12
const TAG_BYTES = 16
const HEAD_BYTES = 1 + NONCE_BYTES
const ALGORITHM = 'aes-256-gcm'
/** Most bytes of a value: tokens are the longest part of one. */
const MAX_BYTES = 64 * 1024

/** @param keyOf returns the key that all gateways of the database have; undefined if there is none */
export function makeSealer(keyOf: DatabaseKey): Sealer {
  let derived: Buffer | undefined
  async function loadKey(): Promise<Buffer> {
    if (derived) return derived
    const key = await keyOf()
    if (!key)
      throw gatewayError(
        'not-ready',
        'The key of the database cannot be read: run tessera migrate, and grant SELECT on tessera.token_key to the role of the read URL.',
      )
    derived = Buffer.from(hkdfSync('sha256', key, '', 'tessera sealed values', 32))
    return derived
  }
  return {
    async seal(purpose, value) {
      const nonce = randomBytes(NONCE_BYTES)
      const cipher = createCipheriv(ALGORITHM, await loadKey(), nonce).setAAD(Buffer.from(purpose))
      const body = Buffer.concat([cipher.update(deflateRawSync(JSON.stringify(value))), cipher.final()])
      return Buffer.concat([Buffer.of(VERSION), nonce, cipher.getAuthTag(), body]).toString('base64url')
    },
    async open(purpose, text) {
      const key = await loadKey()
      const bytes = Buffer.from(text, 'base64url')
      if (bytes.length <= HEAD_BYTES + TAG_BYTES || bytes[0] !== VERSION) return undefined
      try {
        const decipher = createDecipheriv(ALGORITHM, key, bytes.subarray(1, HEAD_BYTES), {
          authTagLength: TAG_BYTES,
        })
          .setAAD(Buffer.from(purpose))
          .setAuthTag(bytes.subarray(HEAD_BYTES, HEAD_BYTES + TAG_BYTES))
        const body = Buffer.concat([
          decipher.update(bytes.subarray(HEAD_BYTES + TAG_BYTES)),
          decipher.final(),
        ])
        return JSON.parse(inflateRawSync(body, { maxOutputLength: MAX_BYTES }).toString())
      } catch {
        return undefined
      }
    },
  }
}
