// Owns what GDAL reads and the other formats here do not: one layer, as the text sequence that ogr2ogr writes.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { extname } from 'node:path'
import { geojsonSeq } from './geojson-seq.ts'
import { chooseLayer, type OgrLayer, parseLayers } from './ogr-layer.ts'
import { SourceError, type SourceFeature, type SourceFormat, type SourceInput } from './source.ts'
import { startOfText } from './source-text.ts'

export const gdal: SourceFormat = {
  name: 'gdal',
  // Those of texts and of what has no bytes of its own; the others are recognised by their bytes as well.
  extensions: [
    '.dgn',
    '.dxf',
    '.fgb',
    '.gdb',
    '.geoparquet',
    '.gml',
    '.gpkg',
    '.gpx',
    '.jml',
    '.kml',
    '.kmz',
    '.mif',
    '.osm',
    '.parquet',
    '.pbf',
    '.shp',
    '.shz',
    '.sqlite',
    '.tab',
    '.vrt',
    '.zip',
  ],
  isOpenedByName: true,
  recognises: (start) =>
    SIGNATURES.some((signature) => start.subarray(0, signature.length).equals(signature)) ||
    startOfText(start).startsWith('<'),
  async read({ file, note }, { layer: named, sourceCrs }) {
    if (file === undefined)
      throw new SourceError(
        'GDAL reads this format, and from files alone. Write the source to a file, unpacked, and name that.',
      )
    const path = pathOf(file)
    const layer = chooseLayer(parseLayers(await report(path)), named)
    if (layer.geometry !== undefined && !layer.hasSystem && sourceCrs === undefined)
      throw new SourceError(
        `The layer ${layer.name} does not name the system of its coordinates; name it with --source-crs, for example --source-crs EPSG:25832.`,
      )
    // It would count as an option.
    if (layer.name.startsWith('-'))
      throw new SourceError(`ogr2ogr cannot be given the name of the layer ${layer.name}; rename it.`)
    for (const [pattern, what] of LOSSES)
      if (pattern.test(layer.geometry ?? '')) note(`The layer ${layer.name} has ${what}.`)
    const sequence = await geojsonSeq.read(
      { file: undefined, start: Buffer.alloc(0), bytes: convert(path, layer, sourceCrs, note), note },
      {},
    )
    return {
      hasTypes: true,
      columnTypes: layer.columnTypes,
      idColumn: layer.idColumn,
      featureCount: layer.features,
      unit: 'Feature',
      features: withBytes(sequence.features, layer.binary),
    }
  },
}

/** First bytes of ZIP archives, SQLite, Shapefile, FlatGeobuf and Parquet. */
const SIGNATURES = [
  Buffer.from('PK\x03\x04'),
  Buffer.from('SQLite format 3\0'),
  Buffer.from('0000270a', 'hex'),
  Buffer.from('fgb'),
  Buffer.from('PAR1'),
]

/** Kinds of geometries that GeoJSON has no place for, and what becomes of them. */
const LOSSES: readonly (readonly [RegExp, string])[] = [
  [/Measured/, 'measures (M): they are left out'],
  [/Curve|Circular|Surface/, 'curves: they become lines of many short parts'],
]

/** Returns the name under which GDAL finds what a file holds; KMZ and packed Shapefiles have drivers of their own. */
const pathOf = (file: string) =>
  extname(file).toLowerCase() === '.zip' && !file.startsWith('/vsi') ? `/vsizip/${file}` : file

/** GDAL would leave a file with what it has found out next to a GML file. */
const OPEN_OPTIONS = ['-oo', 'WRITE_GFS=NO']

/** Returns what ogrinfo reports of all layers. @throws SourceError if GDAL cannot read the source */
async function report(path: string): Promise<string> {
  const chunks: Buffer[] = []
  const args = ['-ro', '-so', '-al', '-nomd', '-noextent', '-wkt_format', 'WKT2', ...OPEN_OPTIONS, path]
  for await (const chunk of run('ogrinfo', args, () => {})) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

/** Returns a layer as lines of GeoJSON in degrees, with all digits. */
function convert(path: string, layer: OgrLayer, sourceCrs: string | undefined, note: SourceInput['note']) {
  const { name, geometry, idColumn } = layer
  const args = [
    ...['-f', 'GeoJSONSeq', '/vsistdout/', ...OPEN_OPTIONS, path, name],
    ...(sourceCrs === undefined ? [] : ['-s_srs', sourceCrs]),
    ...(geometry === undefined ? [] : ['-t_srs', 'EPSG:4326', '-nlt', 'CONVERT_TO_LINEAR']),
    ...(idColumn === undefined ? ['-unsetFid'] : ['-preserve_fid']),
    // Seven decimals are GDAL's default.
    ...['-lco', 'COORDINATE_PRECISION=17'],
    // Without it, a text that looks like JSON becomes JSON. It is known from GDAL 3.8 on.
    ...['-lco', 'AUTODETECT_JSON_STRINGS=NO'],
  ]
  return run('ogr2ogr', args, note)
}

/** Writes the hexadecimal digits of bytes as PostgreSQL reads them. */
async function* withBytes(features: AsyncIterable<SourceFeature[]>, binary: ReadonlySet<string>) {
  for await (const batch of features) {
    for (const { properties } of binary.size > 0 ? batch : [])
      for (const name of binary)
        if (typeof properties?.[name] === 'string') properties[name] = `\\x${properties[name]}`
    yield batch
  }
}

/** Characters of messages that are kept: a damaged source may have one for each feature. */
const MAX_MESSAGES = 64 * 1024

/**
 * Runs a program of GDAL and returns its output. A warning becomes a note. GDAL may report an error and go on; then the
 * output is not complete.
 * @throws SourceError if the program is missing, fails, or reports an error
 */
async function* run(
  program: string,
  args: readonly string[],
  note: SourceInput['note'],
): AsyncGenerator<Buffer> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  let messages = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (messages.length < MAX_MESSAGES) messages += text
  })
  const ended = endOf(child)
  try {
    yield* child.stdout as AsyncIterable<Buffer>
    const failure = await ended
    if (failure && failure.code === 'ENOENT')
      throw new SourceError(
        `GDAL reads this format, but ${program} is not installed. Install GDAL, on Debian and Ubuntu the package gdal-bin, or convert the source to GeoJSON first.`,
        { cause: failure },
      )
    const error = /^ERROR \d+: (.+)$/m.exec(messages)?.[1]
    if (failure || error !== undefined)
      throw new SourceError(
        `GDAL cannot read it: ${error ?? lastLineOf(messages) ?? failure?.message}. "ogrinfo --formats" lists what this GDAL reads.`,
        { cause: failure },
      )
    for (const warning of new Set(messages.match(/^Warning \d+: .+$/gm)))
      if (!IRRELEVANT.test(warning)) note(`GDAL: ${warning.replace(/^Warning \d+: /, '')}`)
  } finally {
    process.removeListener('exit', kill)
    kill()
  }
}

/** Not every driver and version has the options that are given, and types are those of the layer, and not of GeoJSON. */
const IRRELEVANT = /does not support (open|layer creation|creation) option|does not natively support \S+ type/

/** Resolves when a process has ended and its output has been read; with the failure if it was none of success. */
async function endOf(child: ChildProcess): Promise<NodeJS.ErrnoException | undefined> {
  try {
    const [code, signal] = await once(child, 'close')
    return code === 0 ? undefined : new Error(`it ended with ${signal ?? `code ${code}`}`)
  } catch (cause) {
    return cause as NodeJS.ErrnoException
  }
}

const lastLineOf = (text: string) => text.trim().split('\n').at(-1) || undefined
