// Owns the text of consistency tokens: a signed position of node groups, so that no gateway has to store it.
//
// A token is base64url of: version (1 byte), time of issue (Unix seconds, 4 bytes), the number (4 bytes) and LSN
// (8 bytes) of each group, and the first 12 bytes of the HMAC-SHA-256 of all that. Numbers are big-endian.

import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto'
import type { Position } from '../database/consistency.ts'
import type { Database } from '../database/contract.ts'
import { makeDatabaseKey } from './database-key.ts'

const VERSION = 1
const HEAD_BYTES = 5
const GROUP_BYTES = 12
const MAC_BYTES = 12
/** Longest age, in seconds: no secondary is a day behind, and the database may have been restored meanwhile. */
const MAX_AGE_S = 86_400
/** Largest difference between the clocks of gateways, in seconds. */
const MAX_SKEW_S = 300

export interface ConsistencyTokens {
  /** Returns the token of a position; undefined if the database has no key, because it was not migrated. */
  encode(position: Position): Promise<string | undefined>
  /**
   * Returns the position of a token; `everything` if it cannot be trusted: it is too old, or of another database.
   * @returns undefined if the text does not have the form of a token
   */
  decode(text: string): Promise<Position | 'everything' | undefined>
}

export function makeConsistencyTokens(
  database: Database,
  now = () => Math.floor(Date.now() / 1_000),
): ConsistencyTokens {
  const keyOf = makeDatabaseKey(database)
  const sign = (secret: KeyObject, body: Buffer) =>
    createHmac('sha256', secret).update(body).digest().subarray(0, MAC_BYTES)

  return {
    async encode(position) {
      const secret = await keyOf()
      if (!secret) return undefined
      const body = Buffer.alloc(HEAD_BYTES + GROUP_BYTES * position.size)
      body.writeUInt8(VERSION, 0)
      body.writeUInt32BE(now(), 1)
      let offset = HEAD_BYTES
      for (const [group, lsn] of position) {
        body.writeUInt32BE(group, offset)
        body.writeBigUInt64BE(lsn, offset + 4)
        offset += GROUP_BYTES
      }
      return Buffer.concat([body, sign(secret, body)]).toString('base64url')
    },

    async decode(text) {
      const bytes = Buffer.from(text, 'base64url')
      const groups = (bytes.length - HEAD_BYTES - MAC_BYTES) / GROUP_BYTES
      // `Buffer.from` silently skips characters that are not base64url.
      if (bytes.toString('base64url') !== text || !Number.isInteger(groups) || groups < 0) return undefined
      if (bytes.readUInt8(0) !== VERSION) return undefined
      const secret = await keyOf()
      if (!secret) return 'everything'
      const body = bytes.subarray(0, -MAC_BYTES)
      const age = now() - body.readUInt32BE(1)
      const isOurs = timingSafeEqual(sign(secret, body), bytes.subarray(-MAC_BYTES))
      if (!isOurs || age > MAX_AGE_S || age < -MAX_SKEW_S) return 'everything'
      const position = new Map<number, bigint>()
      for (let offset = HEAD_BYTES; offset < body.length; offset += GROUP_BYTES)
        position.set(body.readUInt32BE(offset), body.readBigUInt64BE(offset + 4))
      return position
    },
  }
}
