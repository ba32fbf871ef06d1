// Owns the start of a body: whether it is one feature, which is read as a whole, or many, which are stored as they arrive.

import { hash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { gatewayError } from '../errors.ts'
import { GEOJSON } from '../features/formats/geojson.ts'
import { makeCollectionDetector } from '../features/import/sources/json-documents.ts'
import { FEATURE_TYPES, parseBody } from './body.ts'
import type { Upload } from './upload.ts'

export type OpenBody =
  | { readonly isMany: false; readonly body: unknown }
  | {
      readonly isMany: true
      /** Media type without parameters. */
      readonly type: string
      readonly start: Buffer
      /** All bytes, the first ones included. */
      readonly bytes: AsyncIterable<Buffer>
    }

/** Bytes of a body without a structure of its own, such as a CSV, that are read before its features are. */
const START_BYTES = 16 * 1024

/** Reads the start of a body, or all of it if it is a single feature. @throws GatewayError */
export async function openBody(
  request: FastifyRequest,
  upload: Upload,
  bodyLimit: number,
): Promise<OpenBody> {
  const type = String(request.headers['content-type']).split(';', 1)[0]!.trim().toLowerCase()
  const chunks: Buffer[] = []
  let size = 0
  const take = async () => {
    const chunk = await upload.pull()
    if (!chunk) return undefined
    chunks.push(chunk)
    size += chunk.length
    return chunk
  }
  const many = (): OpenBody => {
    const start = Buffer.concat(chunks)
    upload.hashFrom(start)
    // Single features can be JSON-FG; a collection is one of GeoJSON.
    const known = isDocument(type) ? GEOJSON.types[0] : type
    return { isMany: true, type: known, start, bytes: follow(start, upload) }
  }
  if (!isDocument(type)) {
    while (size < START_BYTES && (await take()));
    return many()
  }
  const detect = makeCollectionDetector(bodyLimit)
  let kind: 'collection' | 'single' | undefined
  for (let chunk = await take(); chunk; chunk = await take()) {
    kind ??= detect(chunk)
    if (kind === 'collection') return many()
    if (
      Math.max(size, Number(request.headers['content-length'] ?? 0) * Number(kind === 'single')) > bodyLimit
    )
      throw gatewayError('body-too-large', `A feature may have at most ${bodyLimit} bytes.`)
  }
  const bytes = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)
  request.bodyHash = hash('sha256', bytes)
  return { isMany: false, body: parseBody(bytes) }
}

const isDocument = (type: string) => (FEATURE_TYPES as readonly string[]).includes(type)

async function* follow(start: Buffer, upload: Upload): AsyncGenerator<Buffer> {
  yield start
  for (let chunk = await upload.pull(); chunk; chunk = await upload.pull()) yield chunk
}
