// Owns the ids of features that are sharded by cell: the home cell, in which they were created, a dot, and a local id.

import { randomFillSync } from 'node:crypto'

/** Returns the id of a new feature. It keeps this cell: a feature that moves leaves a forwarding row there. */
export const itemIdOf = (cell: number, local: string) => `${cell}.${local}`

const ID = /^(-?\d{1,10})\../s

/** Returns the home cell with which an id begins; undefined if no feature can have such an id. */
export function homeOf(id: string): number | undefined {
  const cell = Number(ID.exec(id)?.[1] ?? Number.NaN)
  return Number.isInteger(cell) && Math.abs(cell) < 2 ** 31 ? cell : undefined
}

/** Digits and letters, without letters that look like digits. */
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'
/** 60 bits: the chance that two of a million ids in one cell are equal is one in two million. */
const LENGTH = 12

/** Random bytes for the next ids: many at once, because each call of the generator takes longer than an id. */
const pool = Buffer.alloc(LENGTH * 512)
let used = pool.length

/** Returns a random id, rather than one of a sequence, which needs a round trip and a node that may be down. */
export function makeLocalId(): string {
  if (used === pool.length) {
    randomFillSync(pool)
    used = 0
  }
  let id = ''
  for (const end = used + LENGTH; used < end; used++) id += ALPHABET[pool[used]! % ALPHABET.length]
  return id
}
