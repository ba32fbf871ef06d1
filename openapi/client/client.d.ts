// Owns the types of the client; those of the API itself are generated, in schema.d.ts.

import type { Client, ClientOptions } from 'openapi-fetch'
import type { components, paths } from './schema.d.ts'

export type { components, paths }
export type Feature = components['schemas']['Feature']
export type FeatureCollection = components['schemas']['FeatureCollection']
export type NewFeature = components['schemas']['NewFeature']
export type FeaturePatch = components['schemas']['FeaturePatch']
export type StoredFeatures = components['schemas']['StoredFeatures']
export type Problem = components['schemas']['Problem']

export type TesseraOptions = Omit<ClientOptions, 'baseUrl'> & {
  /** URL of the gateway, as in `http://localhost:8080`. */
  readonly url: string
  /** An API key, which `tessera keys create` makes, or a token of an issuer that the gateway accepts. */
  readonly key?: string
}

type Items = '/collections/{collectionId}/items'
type Create = paths[Items]['post']
/** POST of a single feature; `storeFeatures` sends many. */
type CreateOne = Omit<Create, 'requestBody' | 'responses'> & {
  requestBody: { content: { 'application/geo+json': NewFeature } }
  responses: Omit<Create['responses'], 201> & {
    201: Omit<Create['responses'][201], 'content'> & { content: { 'application/geo+json': Feature } }
  }
}
type PathsOfOne = Omit<paths, Items> & { [path in Items]: Omit<paths[Items], 'post'> & { post: CreateOne } }

/** Answers as JSON: pages are for browsers. */
export type TesseraClient = Client<PathsOfOne, `application/${string}`>

/** GET, POST, PUT, PATCH and DELETE over the paths of the API. Answers that are no success are thrown. */
export function createTesseraClient(options: TesseraOptions): TesseraClient

/** Every feature that a query finds, page by page, by the keyset links of the API. */
export function readFeatures(
  client: TesseraClient,
  collectionId: string,
  query?: NonNullable<paths['/collections/{collectionId}/items']['get']['parameters']['query']>,
): AsyncGenerator<Feature, void>

/**
 * Stores features: all of them or none. An asynchronous source is sent as it comes, which Node and Deno can.
 * @param options `mode: 'upsert'` replaces features whose ids exist; `header` has idempotency-key, prefer and content-crs
 */
export function storeFeatures(
  client: TesseraClient,
  collectionId: string,
  features: Iterable<NewFeature> | AsyncIterable<NewFeature>,
  options?: { mode?: 'insert' | 'upsert'; header?: NonNullable<Create['parameters']['header']> },
): Promise<StoredFeatures>

/** An answer that is no success. */
export class TesseraProblem extends Error {
  readonly status: number
  /** Tells kinds of problems apart, as in `feature-changed`. */
  readonly code: string | undefined
  /** As the gateway sent it (RFC 9457); undefined where something before it answered. */
  readonly problem: Problem | undefined
}
