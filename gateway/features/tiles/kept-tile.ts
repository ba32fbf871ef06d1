// Owns a tile that is kept: its bytes, their hash, and its compressed forms, which are made once.

import { hash } from 'node:crypto'
import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'
import type { Origin } from '../../database/consistency.ts'
import type { State } from '../../database/state.ts'

export type Coding = 'br' | 'gzip'

/** Tiles below this size are not compressed: the headers are as long. */
export const LEAST_COMPRESSED_BYTES = 1_024
/** Brotli's default quality of 11 takes seconds for a large tile. */
const BROTLI = { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }
const CODERS: Readonly<Record<Coding, (body: Buffer) => Promise<Buffer>>> = {
  br: (body) => promisify(brotliCompress)(body, BROTLI),
  gzip: promisify(gzip),
}

/** Bytes of a tile that is kept, besides those of its bodies and its key: its hash, and the objects around them. */
const OVERHEAD_BYTES = 1_500
/** Node takes buffers below this size out of larger ones, which a kept one would hold in memory. */
const POOLED_BYTES = Buffer.poolSize >>> 1

/** What a tile was made from. */
export type Making = {
  readonly body: Buffer
  /** True if it is the same until a stored row changes. */
  readonly isSteady: boolean
  /** The cells that it was read from; undefined if these can be any. */
  readonly cells: readonly number[] | undefined
}

/** Knowledge of what a tile was made from at some time. */
export type Sight = {
  /** By performance.now(): what was committed before is in it, as far as the server that was read had it. */
  readonly at: number
  /** Undefined if it is not completely known. */
  readonly state: State | undefined
  readonly origin: Origin
}

export class KeptTile {
  readonly body: Buffer
  /** Hash of the body, for its entity tag: it is the same in every process and gateway. */
  readonly hash: string
  readonly isSteady: boolean
  readonly cells: Making['cells']
  readonly made: Sight
  readonly #coded = new Map<Coding, Promise<Buffer>>()
  readonly #onGrowth: (bytes: number) => void
  #bytes: number

  /** @param onGrowth called with the bytes that it has got more */
  constructor(
    key: string,
    { body, isSteady, cells }: Making,
    made: Sight,
    onGrowth: (bytes: number) => void,
  ) {
    this.body = body.length < POOLED_BYTES ? Buffer.from(new Uint8Array(body).buffer) : body
    this.hash = hash('sha1', body, 'base64url')
    this.isSteady = isSteady
    this.cells = cells
    this.made = made
    this.#onGrowth = onGrowth
    this.#bytes = OVERHEAD_BYTES + 2 * key.length + body.length
  }

  /** Bytes that it occupies. */
  get bytes(): number {
    return this.#bytes
  }

  /** Returns its body in a coding; several requests wait for the same work. */
  coded(coding: Coding): Promise<Buffer> {
    let coded = this.#coded.get(coding)
    if (coded) return coded
    coded = CODERS[coding](this.body).then((body) => {
      this.#bytes += body.length
      this.#onGrowth(body.length)
      return body
    })
    this.#coded.set(coding, coded)
    return coded
  }
}
