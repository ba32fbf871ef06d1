// Owns the types of the builder of filters: a property exists, and what is compared with it has its type.

declare const value: unique symbol

/**
 * A part of a filter, whose value has the type T. At run time it is the CQL2-JSON of this part, without more:
 * `JSON.stringify` shows it.
 */
export interface Term<out T> {
  readonly [value]: T
}

type Scalar = string | number | boolean | Date
/** Tells an interval from other values; no value has this type. */
export interface Interval {
  readonly start: Date
  readonly end: Date
}
/** A geometry as GeoJSON, in longitude and latitude. */
export interface Geometry {
  readonly type:
    | 'Point'
    | 'LineString'
    | 'Polygon'
    | 'MultiPoint'
    | 'MultiLineString'
    | 'MultiPolygon'
    | 'GeometryCollection'
  readonly coordinates?: readonly unknown[]
  readonly geometries?: readonly unknown[]
}

/**
 * A value of the type T, or a part of the filter that has one. A `Date` is a time. JSON has times as texts, so that a
 * property of type `string` can be one: declare it as `Date`, and only times are compared with it.
 */
export type Operand<T> = T | Term<T> | (string extends T ? Date | Term<Date> : never)
type TextOperand = string | Term<string>
type NumberOperand = number | Term<number>
type GeometryOperand = Geometry | Term<Geometry>
type Instant = Date | Term<Date> | Term<string>
type Period = Term<Interval>

/** What is true, false or unknown for a feature. */
export type Condition = Operand<boolean>

/** Properties as parts of a filter; null and a value that is missing are the same to a filter. */
export type Properties<T> = 0 extends T & 1
  ? // biome-ignore lint/suspicious/noExplicitAny: without a type there is nothing to check
    any
  : { readonly [Name in keyof NonNullable<T>]-?: Term<NonNullable<NonNullable<T>[Name]>> }

/** The properties of a collection, with its geometry under the name of its column. Without a T, any name is one. */
// biome-ignore lint/suspicious/noExplicitAny: as above
export function propertiesOf<T = any>(): Properties<T>

/** The parameters of a query that selects the features for which the condition is true. */
export function where(condition: Condition): { filter: string; 'filter-lang': 'cql2-json' }

/** True if each condition is; without any, true. */
export function and(...conditions: readonly Condition[]): Term<boolean>
/** True if one of the conditions is; without any, false. */
export function or(...conditions: readonly Condition[]): Term<boolean>
export function not(condition: Condition): Term<boolean>

type Comparison = <T extends Scalar>(left: Term<T>, right: Operand<NoInfer<T>>) => Term<boolean>
export const eq: Comparison
export const ne: Comparison
export const lt: Comparison
export const lte: Comparison
export const gt: Comparison
export const gte: Comparison
export function between<T extends Scalar>(
  term: Term<T>,
  least: Operand<NoInfer<T>>,
  most: Operand<NoInfer<T>>,
): Term<boolean>
/** `IN`. */
export function isIn<T extends Scalar>(term: Term<T>, values: readonly Operand<NoInfer<T>>[]): Term<boolean>
export function isNull(term: Term<unknown>): Term<boolean>
/** @param pattern in which `%` stands for any characters, `_` for one, and `\` takes their meaning away */
export function like(text: TextOperand, pattern: TextOperand): Term<boolean>
/** The text regardless of case: `eq(casei(p.name), casei('bern'))`. */
export function casei(text: TextOperand): Term<string>
/** The text regardless of accents. */
export function accenti(text: TextOperand): Term<string>

type Arithmetic = (left: NumberOperand, right: NumberOperand) => Term<number>
export const add: Arithmetic
export const subtract: Arithmetic
export const multiply: Arithmetic
export const divide: Arithmetic
/** `div`: the quotient without its fraction. */
export const divideWhole: Arithmetic
export const modulo: Arithmetic
export const power: Arithmetic

/** A box in degrees; one with heights is for `sIntersects` and `sDisjoint`. */
export function bbox(
  ...bounds:
    | readonly [west: number, south: number, east: number, north: number]
    | readonly [west: number, south: number, low: number, east: number, north: number, high: number]
): Term<Geometry>

type Spatial = (left: GeometryOperand, right: GeometryOperand) => Term<boolean>
export const sContains: Spatial
export const sCrosses: Spatial
export const sDisjoint: Spatial
export const sEquals: Spatial
export const sIntersects: Spatial
export const sOverlaps: Spatial
export const sTouches: Spatial
export const sWithin: Spatial

/** A day, as in `date('2024-02-29')`; of a `Date`, its day in UTC. */
export function date(day: string | Date): Term<Date>
/** A time in UTC, as in `timestamp('2024-02-29T12:00:00Z')`. A `Date` is one by itself. */
export function timestamp(time: string | Date): Term<Date>
/** @param start a day, a time, or `'..'` if it is open */
export function interval(start: string | Instant, end: string | Instant): Term<Interval>

type Temporal = (left: Instant | Period, right: Instant | Period) => Term<boolean>
type OfIntervals = (left: Period, right: Period) => Term<boolean>
export const tAfter: Temporal
export const tBefore: Temporal
export const tContains: OfIntervals
export const tDisjoint: Temporal
export const tDuring: OfIntervals
export const tEquals: Temporal
export const tFinishedBy: OfIntervals
export const tFinishes: OfIntervals
export const tIntersects: Temporal
export const tMeets: OfIntervals
export const tMetBy: OfIntervals
export const tOverlappedBy: OfIntervals
export const tOverlaps: OfIntervals
export const tStartedBy: OfIntervals
export const tStarts: OfIntervals

type OfLists = <T extends Scalar>(
  left: Term<readonly T[]>,
  right: readonly Operand<NoInfer<T>>[] | Term<readonly NoInfer<T>[]>,
) => Term<boolean>
export const aContainedBy: OfLists
export const aContains: OfLists
export const aEquals: OfLists
export const aOverlaps: OfLists

/** The time at which the query began. */
export function now(): Term<Date>
export function lower(text: TextOperand): Term<string>
export function upper(text: TextOperand): Term<string>
/** The number of characters. */
export function length(text: TextOperand): Term<number>
export function abs(number: NumberOperand): Term<number>
/** True if the geometries are at most so many metres apart. */
export function sDwithin(
  first: GeometryOperand,
  second: GeometryOperand,
  metres: NumberOperand,
): Term<boolean>
/** Any other function, which `/functions` lists; T is the type of what it returns. */
export function call<T>(name: string, ...args: readonly unknown[]): Term<T>
