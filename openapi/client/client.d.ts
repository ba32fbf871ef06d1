// Owns the types of the client; those of the API itself are generated, in schema.d.ts.

import type { Client, ClientOptions } from 'openapi-fetch'
import type { components, paths } from './schema.d.ts'

export type { components, paths }
export type Feature = components['schemas']['Feature']
export type FeatureCollection = components['schemas']['FeatureCollection']
export type NewFeature = components['schemas']['NewFeature']
export type FeaturePatch = components['schemas']['FeaturePatch']
export type Problem = components['schemas']['Problem']

export type TesseraOptions = Omit<ClientOptions, 'baseUrl'> & {
  /** URL of the gateway, as in `http://localhost:8080`. */
  readonly url: string
  /** An API key, for changes: `tessera keys create` makes one. */
  readonly key?: string
}

/** Answers as JSON: pages are for browsers. */
export type TesseraClient = Client<paths, `application/${string}`>

/** GET, POST, PUT, PATCH and DELETE over the paths of the API. Answers that are no success are thrown. */
export function createTesseraClient(options: TesseraOptions): TesseraClient

/** Every feature that a query finds, page by page, by the keyset links of the API. */
export function readFeatures(
  client: TesseraClient,
  collectionId: string,
  query?: NonNullable<paths['/collections/{collectionId}/items']['get']['parameters']['query']>,
): AsyncGenerator<Feature, void>

/** An answer that is no success. */
export class TesseraProblem extends Error {
  readonly status: number
  /** Tells kinds of problems apart, as in `feature-changed`. */
  readonly code: string | undefined
  /** As the gateway sent it (RFC 9457); undefined where something before it answered. */
  readonly problem: Problem | undefined
}
