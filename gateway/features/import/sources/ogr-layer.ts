// Owns what GDAL reports of the layers of a source: their names, geometries, systems and the types of their fields.

import type { ColumnType } from '../column-type.ts'
import { SourceError } from './source.ts'

export type OgrLayer = {
  readonly name: string
  /** In GDAL's words, for example `Line String`; undefined if its features have no geometries. */
  readonly geometry: string | undefined
  /** Undefined if it is not known. */
  readonly features: number | undefined
  /** True if the layer names the system of its coordinates. */
  readonly hasSystem: boolean
  /** Name of the column that identifies features; undefined if only their order does. */
  readonly idColumn: string | undefined
  /** Types of its fields, by their names; a field of a kind that is not known here is missing. */
  readonly columnTypes: ReadonlyMap<string, ColumnType>
  /** Names of the fields with bytes. */
  readonly binary: ReadonlySet<string>
}

/** Types of GDAL, and for some of them the kinds that GDAL distinguishes, as in `Integer(Int16)`. */
const TYPES: ReadonlyMap<string, ColumnType> = new Map([
  ['Integer', 'integer'],
  ['Integer(Boolean)', 'boolean'],
  ['Integer(Int16)', 'smallint'],
  ['Integer64', 'bigint'],
  ['Real', 'double precision'],
  ['Real(Float32)', 'real'],
  ['String', 'text'],
  ['String(JSON)', 'jsonb'],
  ['String(UUID)', 'uuid'],
  ['Date', 'date'],
  ['Time', 'time'],
  ['DateTime', 'timestamptz'],
  ['Binary', 'bytea'],
  ['IntegerList', 'jsonb'],
  ['Integer64List', 'jsonb'],
  ['RealList', 'jsonb'],
  ['StringList', 'jsonb'],
])

/** A line of a field, for example `height: Real (15.2) NOT NULL`; a name may have colons. */
const FIELD = /^(.+?): ([A-Z][A-Za-z0-9]*(?:\([A-Za-z0-9]+\))?) \(\d+\.\d+\)/

/** Reads a report of ogrinfo, without metadata. */
export const parseLayers = (report: string): OgrLayer[] =>
  report
    .split(/^Layer name: /m)
    .slice(1)
    .map(parseLayer)

function parseLayer(text: string): OgrLayer {
  const [name = '', ...lines] = text.split(/\r?\n/)
  const find = (pattern: RegExp) => pattern.exec(lines.join('\n'))?.[1]
  const columnTypes = new Map<string, ColumnType>()
  const binary = new Set<string>()
  for (const line of lines) {
    const [, field, kind = ''] = FIELD.exec(line) ?? []
    const type = TYPES.get(kind) ?? TYPES.get(kind.replace(/\(.*/, ''))
    if (field === undefined || !type) continue
    columnTypes.set(field, type)
    if (type === 'bytea') binary.add(field)
  }
  // A layer with several columns of geometries names each of them; GDAL writes the first one.
  const geometry = find(/^Geometry(?: \(.*\))?: (.+)$/m)
  const features = Number(find(/^Feature Count: (\d+)$/m) ?? Number.NaN)
  const system = find(/^(?:Layer )?SRS WKT(?: \(.*\))?:\n(.*)$/m)
  return {
    name,
    geometry: geometry === 'None' ? undefined : geometry,
    features: Number.isSafeInteger(features) ? features : undefined,
    hasSystem: system !== undefined && system !== '(unknown)',
    idColumn: find(/^FID Column = (.+)$/m),
    columnTypes,
    binary,
  }
}

/**
 * Chooses the layer that is imported: the named one, the only one, or the only one with geometries.
 * @throws SourceError if it is not there, or if it could be several
 */
export function chooseLayer(layers: readonly OgrLayer[], named: string | undefined): OgrLayer {
  if (layers.length === 0) throw new SourceError('GDAL finds no layer in it.')
  const listed = layers.map(describeLayer).join(', ')
  if (named !== undefined) {
    const found = layers.find(({ name }) => name === named)
    if (found) return found
    throw new SourceError(`There is no layer ${named}; it has ${listed}.`)
  }
  const candidates = layers.length === 1 ? layers : layers.filter(({ geometry }) => geometry !== undefined)
  if (candidates.length === 1) return candidates[0]!
  throw new SourceError(`It has several layers; name one of them with --layer: ${listed}.`)
}

const describeLayer = ({ name, geometry, features }: OgrLayer) =>
  `${name} (${geometry ?? 'no geometries'}${features === undefined ? '' : `, ${features} feature${features === 1 ? '' : 's'}`})`
