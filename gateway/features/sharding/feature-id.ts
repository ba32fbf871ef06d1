// Owns the ids of features that are sharded by place: the cell where they were made, a dot, and the rest.

import { randomInt } from 'node:crypto'

/** An id keeps its first cell: a feature that moves on leaves word there, see forwarding.ts. */
export const itemIdOf = (cell: number, local: string) => `${cell}.${local}`

const ID = /^(-?\d{1,10})\../s

/** The cell that an id begins with; undefined where it is the id of nothing. */
export function homeOf(id: string): number | undefined {
  const cell = Number(ID.exec(id)?.[1] ?? Number.NaN)
  return Number.isInteger(cell) && Math.abs(cell) < 2 ** 31 ? cell : undefined
}

/** Without letters that look like digits. */
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'
/** 60 bits: of a million ids in one cell, two are the same once in two million times. */
const LENGTH = 12

/** By chance rather than from a sequence: no round trip, and nobody to ask who could be away. */
export const makeLocalId = () =>
  Array.from({ length: LENGTH }, () => ALPHABET[randomInt(ALPHABET.length)]).join('')
