// Owns the member `crs` of GeoJSON from before RFC 7946: whether it means longitude and latitude in WGS 84.

import { type CoordinateSystem, DEGREES } from './coordinate-system.ts'
import { ExactNumber, isObject } from './exact-json.ts'

/**
 * Names of WGS 84: CRS84, EPSG:4326 and 4979 as codes, OGC URNs and URLs. GeoJSON of 2008 has longitude first in all of
 * them, whatever order EPSG gives the axes.
 */
const WGS84 = [
  /^wgs ?84$/i,
  /^(ogc:)?crs84h?$/i,
  /^urn:(x-)?ogc:def:crs:ogc:([\d.]*:)?crs84h?$/i,
  /^(epsg:+|urn:(x-)?ogc:def:crs:epsg:([\d.]*:)?)(4326|4979)$/i,
  /^https?:\/\/www\.opengis\.net\/def\/crs\/(ogc\/[\d.]+\/crs84h?|epsg\/[\d.]+\/(4326|4979))\/?$/i,
  /^https?:\/\/(www\.)?(spatialreference\.org\/ref\/epsg|epsg\.io)\/4326(\/|\.|$)/i,
]

/**
 * Returns the name of the CRS of coordinates that are not longitude and latitude in WGS 84; otherwise undefined. RFC
 * 7946 has no `crs`; to ignore one of another system would put features in a wrong place.
 * @param crs the member as it was sent: the forms `name`, `link`, `EPSG` and `OGC` of GeoJSON of 2008 and its drafts, a
 *   name alone, or null
 * @param system that of the coordinates, if Content-Crs names it; then there is nothing left to say
 */
export function foreignCrsOf(crs: unknown, system?: CoordinateSystem): string | undefined {
  if (crs === undefined || crs === null) return undefined
  const name = nameOf(crs)
  return !isNamed(system) && name !== undefined && WGS84.some((pattern) => pattern.test(name.trim()))
    ? undefined
    : (name ?? (JSON.stringify(crs) as string).slice(0, MAX_SHOWN))
}

/** GeoJSON of 2008 has longitude first in all names of WGS 84, which is not so in EPSG:4326. */
const isNamed = (system: CoordinateSystem | undefined) =>
  system !== undefined && (system.srid !== DEGREES || system.isNorthFirst)

/** Characters of a `crs` without a name that a message shows. */
const MAX_SHOWN = 100

function nameOf(crs: unknown): string | undefined {
  if (typeof crs === 'string') return crs
  if (!isObject(crs) || !isObject(crs.properties)) return undefined
  const { name, href, urn, code } = crs.properties
  const given = name ?? href ?? urn ?? code
  const text = given instanceof ExactNumber || typeof given === 'number' ? String(given) : given
  if (typeof text !== 'string') return undefined
  return /^\d+$/.test(text) ? `EPSG:${text}` : text
}

/** Completes "has …" for coordinates in another CRS. */
export const describeForeignCrs = (name: string, system?: CoordinateSystem) =>
  isNamed(system)
    ? `the crs ${name}; leave it out: Content-Crs names the system of the coordinates`
    : `the crs ${name}; coordinates must be longitude and latitude in WGS 84: convert them, for example with ogr2ogr -t_srs EPSG:4326, and leave out crs`
