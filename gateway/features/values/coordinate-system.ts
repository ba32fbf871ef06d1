// Owns coordinate systems: their names in requests and answers, and what PostGIS' table of them says about their axes.

import { invalidParameter } from '../../errors.ts'

export type CoordinateSystem = {
  readonly uri: string
  /** Number of the system in PostGIS. */
  readonly srid: number
  /** The authority that names the system, and its name there, by which GIS programs know it. */
  readonly authority: string
  readonly code: string
  /**
   * True if its authority has north before east, as in latitude and longitude. PostGIS stores east first in all such
   * systems.
   */
  readonly isNorthFirst: boolean
  /** What its first and second coordinate are called, for people. */
  readonly axes: readonly [string, string]
  /** True if positions are angles, and not lengths on a plane. */
  readonly isGeographic: boolean
  /** Decimals of a coordinate, which leave a tenth of a millimetre. */
  readonly decimals: number
}

/** SRID of longitude and latitude in WGS 84. */
export const DEGREES = 4326

const [LONGITUDE, LATITUDE] = ['Longitude', 'Latitude']

const degrees = {
  srid: DEGREES,
  authority: 'EPSG',
  code: String(DEGREES),
  isGeographic: true,
  decimals: 9,
} as const
/** WGS 84 with longitude first, which coordinates are in by default. */
export const CRS84: CoordinateSystem = {
  ...degrees,
  uri: 'http://www.opengis.net/def/crs/OGC/1.3/CRS84',
  isNorthFirst: false,
  axes: [LONGITUDE, LATITUDE],
}
/** The same for positions with a height. */
export const CRS84H: CoordinateSystem = {
  ...degrees,
  uri: 'http://www.opengis.net/def/crs/OGC/0/CRS84h',
  isNorthFirst: false,
  axes: [LONGITUDE, LATITUDE],
}
export const WGS84: CoordinateSystem = {
  ...degrees,
  uri: 'http://www.opengis.net/def/crs/EPSG/0/4326',
  isNorthFirst: true,
  axes: [LATITUDE, LONGITUDE],
}

/** A row of spatial_ref_sys. */
export type Definition = {
  readonly srid: number
  readonly authority: string
  readonly code: string
  /** Well-known text; both versions of it are in use. */
  readonly text: string
}

/** Returns a system; undefined if it has no name that an authority gives, or no positions on the ground. */
export function makeSystem({ srid, authority, code, text }: Definition): CoordinateSystem | undefined {
  if (srid === DEGREES) return WGS84
  if (!/^\w+$/.test(authority) || !/^\w+$/.test(code)) return undefined
  // A compound system has its heights after its plane, a bound one the system to which it is bound.
  const ground = text.split(/,\s*(?:VERT_?CS|VERTCRS|TARGETCRS)\[/)[0]!
  if (!/PROJC|GEOGC/.test(ground)) return undefined
  const isGeographic = !/PROJC/.test(ground)
  const unit = unitOf(ground, isGeographic)
  if (unit === undefined) return undefined
  const uri = `http://www.opengis.net/def/crs/${authority}/0/${code}`
  const axes = axesIn(ground)
  const northFirst = isNorthFirst(axes, ground)
  return {
    uri,
    srid,
    authority,
    code,
    isNorthFirst: northFirst,
    axes: nameAxes(axes, isGeographic, northFirst),
    isGeographic,
    decimals: decimalsOf(unit),
  }
}

type Axis = { readonly name: string; readonly to: string }

/** Returns the axes that a text names: those of a plane come after those of the geographic system on which it is based. */
const axesIn = (ground: string): Axis[] =>
  [...ground.matchAll(/AXIS\["([^"]*)",\s*(north|south|east|west)\b/gi)]
    .map(([, name, to]) => ({ name: name!, to: to!.toLowerCase() }))
    .slice(-2)

/**
 * Returns true if north comes before east. GDAL, which has written most of these texts, leaves out the axes if north is
 * first, and for some that have the order in their name.
 */
function isNorthFirst([first, second]: readonly Axis[], ground: string): boolean {
  return second === undefined ? !/\(lon-lat\)/i.test(ground) : first!.to === 'north' && second.to === 'east'
}

/** Returns what the axes are called. A letter alone means nothing to people without the direction. */
function nameAxes(
  [first, second]: readonly Axis[],
  isGeographic: boolean,
  northFirst: boolean,
): readonly [string, string] {
  if (first === undefined || second === undefined) {
    const [east, north] = isGeographic ? [LONGITUDE, LATITUDE] : ['Easting', 'Northing']
    return northFirst ? [north!, east!] : [east!, north!]
  }
  const nameOfAxis = ({ name, to }: Axis) => {
    // The second form of these texts has an abbreviation in parentheses, after the name or in its place.
    const word = name.replace(/\s*\((.*)\)$/, (_all, short: string, at: number) => (at === 0 ? short : ''))
    return word.length > 2 ? word[0]!.toUpperCase() + word.slice(1) : `${word} (${to})`
  }
  return [nameOfAxis(first), nameOfAxis(second)]
}

const EARTH_RADIUS_METRES = 6_378_137

/** Returns metres of the unit of its coordinates, at the equator if they are angles. */
function unitOf(ground: string, isGeographic: boolean): number | undefined {
  const units = isGeographic
    ? /\b(?:ANGLE)?UNIT\["[^"]*",\s*([\d.eE+-]+)/g
    : /\b(?:LENGTH)?UNIT\["[^"]*",\s*([\d.eE+-]+)/g
  const last = [...ground.matchAll(units)].at(-1)
  const unit = Number(last?.[1]) * (isGeographic ? EARTH_RADIUS_METRES : 1)
  return unit > 0 ? unit : undefined
}

/** Largest step between two coordinates: the ninth decimal of a degree is 0.11 mm. */
const STEP_METRES = 0.00012

const decimalsOf = (unit: number) => Math.max(0, Math.ceil(Math.log10(unit / STEP_METRES)))

const HTTP = /^https?:\/\/www\.opengis\.net\/def\/crs\/(\w+)\/[\w.]+\/(\w+)$/
const URN = /^urn:ogc:def:crs:(\w+):[\w.]*:(\w+)$/

/** Returns authority and code of a URI, which has the one form or the other; undefined for any other text. */
function codeOf(uri: string): string | undefined {
  const [, authority, code] = HTTP.exec(uri) ?? URN.exec(uri) ?? []
  return authority && `${authority}:${code}`
}

/** Returns the name of a system for people, as in `EPSG:25832`. */
export const nameOfSystem = ({ uri }: CoordinateSystem) => codeOf(uri) ?? uri

/** Returns the system that a URI names, in either form and any version; undefined if it is none of these. */
export function findSystem(uri: string, systems: readonly CoordinateSystem[]): CoordinateSystem | undefined {
  const code = codeOf(uri)
  return code === undefined ? undefined : systems.find((system) => codeOf(system.uri) === code)
}

/**
 * Returns the system that a parameter names, or the default one without it.
 * @throws GatewayError that lists the systems of the collection
 */
export function systemOf(
  parameter: string,
  uri: string | undefined,
  { systems, defaultSystem }: SystemsOfCollection,
): CoordinateSystem {
  if (uri === undefined) return defaultSystem
  const system = findSystem(uri, systems)
  if (system) return system
  throw invalidParameter(
    parameter,
    `one of the coordinate systems of this collection: ${systems.map((one) => one.uri).join(', ')}`,
    systems[0]!.uri,
  )
}

export type SystemsOfCollection = {
  /** Systems in which features are served. */
  readonly systems: readonly CoordinateSystem[]
  /** The one that coordinates are in if a request names none. */
  readonly defaultSystem: CoordinateSystem
}
