// Owns the styles of the operator: read from a folder at the start, checked, and pointed at the tiles of this gateway.

import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { StyleSpecification } from '@maplibre/maplibre-gl-style-spec'
import { UserError } from '../errors.ts'

/** What names the styles of a folder: that of all collections, or of one of them. */
type Owner = { readonly collection: string | undefined }

export type Styles = {
  /**
   * Returns the operator's style; undefined if there is none.
   * @param base URL of the gateway, without a slash at its end
   * @param collection id of a collection; undefined for the style of all
   */
  of(base: string, collection: string | undefined): Readonly<Record<string, unknown>> | undefined
}

/** Addresses of tiles as styles have them, from the part on that is the same on every gateway. */
const TILEJSON = /(?:\/collections\/([^/?#]+))?\/tilejson\.json(?:\?[^#]*)?$/
const TILES = /(?:\/collections\/([^/?#]+))?\/tiles\/WebMercatorQuad\/\{z\}\/\{y\}\/\{x\}(?:\?[^#]*)?$/
/** Faults that are named, of those that a style has. */
const MAX_FAULTS = 5

const FILE = 'style.json'
const COLLECTIONS = 'collections'

/**
 * Reads the styles of a folder, which are where their addresses are: `style.json`, and `collections/{c}/style.json`.
 * @param folder undefined if there is none
 * @throws UserError naming the file, and what is wrong with it
 */
export async function readStyles(folder: string | undefined): Promise<Styles> {
  if (folder === undefined) return { of: () => undefined }
  const styles = new Map<string | undefined, StyleSpecification>()
  const found = await listFolder(folder)
  const files = [
    ...(found.includes(FILE) ? [{ collection: undefined, file: join(folder, FILE) }] : []),
    ...(found.includes(COLLECTIONS) ? await listFolder(join(folder, COLLECTIONS)) : []).map((name) => ({
      collection: decodeId(name),
      file: join(folder, COLLECTIONS, name, FILE),
    })),
  ]
  if (files.length === 0)
    throw new UserError(`${folder} has no styles: they are ${FILE} and ${COLLECTIONS}/NAME/${FILE} in it.`)
  for (const { collection, file } of files) styles.set(collection, await readStyle(file, { collection }))
  return {
    of(base, collection) {
      const style = styles.get(collection)
      return style && { ...style, sources: pointed(style, base) }
    },
  }
}

async function listFolder(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).filter((name) => !name.startsWith('.')).toSorted()
  } catch (cause) {
    throw new UserError(`The styles in ${folder} cannot be read: ${(cause as Error).message}.`, { cause })
  }
}

/** Returns the id in the name of a folder, in which it is written as in an address. */
function decodeId(name: string): string {
  try {
    return decodeURIComponent(name)
  } catch {
    return name
  }
}

async function readStyle(file: string, owner: Owner): Promise<StyleSpecification> {
  let style: StyleSpecification
  try {
    style = JSON.parse(await readFile(file, 'utf8'))
  } catch (cause) {
    throw new UserError(`The style ${file} cannot be read: ${(cause as Error).message}.`, { cause })
  }
  const faults = await faultsOf(style, owner)
  if (faults.length === 0) return style
  const named = faults.slice(0, MAX_FAULTS).join('; ')
  const rest = faults.length > MAX_FAULTS ? `; and ${faults.length - MAX_FAULTS} more` : ''
  throw new UserError(`The style ${file} cannot be used: ${named}${rest}.`)
}

async function faultsOf(style: StyleSpecification, { collection }: Owner): Promise<string[]> {
  if (typeof style !== 'object' || style === null) return ['it must be an object']
  // It is loaded for those who have styles.
  const { validateStyleMin } = await import('@maplibre/maplibre-gl-style-spec')
  const faults = validateStyleMin(style).map(({ message }) => message)
  if (faults.length > 0) return faults
  const ours = new Map(
    Object.entries(style.sources).flatMap(([name]) => {
      const of = collectionOf(style, name)
      return of === undefined ? [] : [[name, of] as const]
    }),
  )
  if (ours.size === 0)
    return [
      'none of its sources has tiles of this gateway; the style that the gateway makes shows their addresses',
    ]
  const others = [...ours].filter(([, of]) => collection !== undefined && of.collection !== collection)
  return [
    ...others.map(([name]) => `sources.${name}: has tiles of something else than ${collection}`),
    ...style.layers.flatMap((layer) => {
      const of = 'source' in layer ? ours.get(layer.source as string)?.collection : undefined
      const drawn = 'source-layer' in layer ? layer['source-layer'] : undefined
      return of === undefined || drawn === of
        ? []
        : [`layers.${layer.id}: source-layer must be "${of}", the only one in these tiles`]
    }),
  ]
}

/** Returns whose tiles a source has; undefined if they are no tiles of a gateway. */
function collectionOf(style: StyleSpecification, name: string): Owner | undefined {
  const source = style.sources[name]
  if (source?.type !== 'vector') return undefined
  const parts = source.url === undefined ? TILES.exec(source.tiles?.[0] ?? '') : TILEJSON.exec(source.url)
  return parts === null ? undefined : { collection: parts[1] === undefined ? undefined : decodeId(parts[1]) }
}

/** Returns the sources with the addresses of this gateway, whatever gateway the style was made with. */
function pointed(style: StyleSpecification, base: string) {
  return Object.fromEntries(
    Object.entries(style.sources).map(([name, source]) => {
      if (source.type !== 'vector' || !collectionOf(style, name)) return [name, source]
      return source.url === undefined
        ? [name, { ...source, tiles: source.tiles!.map((tiles) => base + TILES.exec(tiles)?.[0]) }]
        : [name, { ...source, url: base + TILEJSON.exec(source.url)?.[0] }]
    }),
  )
}
