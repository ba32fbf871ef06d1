// Owns the text of consistency tokens: a position in the logs of node groups, signed, so that no gateway has to remember it.
//
// In base64url: version (1 byte), when it was issued (seconds, 4), for each group its number (4) and place (8), and
// the first 12 bytes of the HMAC-SHA-256 of all that. Big-endian.

import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Position } from '../database/consistency.ts'
import type { Database, Row } from '../database/database.ts'

const VERSION = 1
const HEAD_BYTES = 5
const GROUP_BYTES = 12
const MAC_BYTES = 12
/** After a day nobody is behind by it any more, and a database may have been restored from before it. */
const MAX_AGE_S = 86_400
/** Clocks of gateways differ by less. */
const MAX_SKEW_S = 300

export interface ConsistencyTokens {
  /** Undefined for a database that has no key: nobody has migrated it. */
  encode(position: Position): Promise<string | undefined>
  /**
   * `everything` where nobody can say what is meant: it is too old, or of another database.
   * @returns undefined for what has not the form of a token
   */
  decode(text: string): Promise<Position | 'everything' | undefined>
}

export function makeConsistencyTokens(
  database: Database,
  now = () => Math.floor(Date.now() / 1_000),
): ConsistencyTokens {
  let key: Buffer | undefined
  async function loadKey(): Promise<Buffer | undefined> {
    if (key) return key
    const [[isReadable]] = (await database.read(IS_READABLE)) as [Row]
    const [row] = isReadable === 't' ? await database.read(KEY) : []
    if (row) key = Buffer.from(row[0]!, 'hex')
    return key
  }
  const sign = (secret: Buffer, body: Buffer) =>
    createHmac('sha256', secret).update(body).digest().subarray(0, MAC_BYTES)

  return {
    async encode(position) {
      const secret = await loadKey()
      if (!secret) return undefined
      const body = Buffer.alloc(HEAD_BYTES + GROUP_BYTES * position.size)
      body.writeUInt8(VERSION, 0)
      body.writeUInt32BE(now(), 1)
      let offset = HEAD_BYTES
      for (const [group, place] of position) {
        body.writeUInt32BE(group, offset)
        body.writeBigUInt64BE(place, offset + 4)
        offset += GROUP_BYTES
      }
      return Buffer.concat([body, sign(secret, body)]).toString('base64url')
    },

    async decode(text) {
      const bytes = Buffer.from(text, 'base64url')
      const groups = (bytes.length - HEAD_BYTES - MAC_BYTES) / GROUP_BYTES
      // What is not base64url is left out in silence.
      if (bytes.toString('base64url') !== text || !Number.isInteger(groups) || groups < 0) return undefined
      if (bytes.readUInt8(0) !== VERSION) return undefined
      const secret = await loadKey()
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

const IS_READABLE = {
  text: `select exists (
    select from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'tessera' and c.relname = 'token_key'
      and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'))`,
  values: [],
}
const KEY = { text: `select encode(key, 'hex') from tessera.token_key`, values: [] }
