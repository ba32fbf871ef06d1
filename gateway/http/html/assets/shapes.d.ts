// Owns the types of shapes.js, which has none because browsers load it as it is.

import type { Geometry } from 'geojson'

/** A feature as Terra Draw has it: its mode is the kind of the shape. */
type Shape = {
  readonly type: 'Feature'
  readonly geometry: { readonly type: string; readonly coordinates: unknown }
  readonly properties: { readonly mode: string; readonly currentlyDrawing?: boolean }
}
export function shapesOf(geometry: Geometry | null): Shape[] | undefined
export function isShape(shape: Shape): boolean
export function geometryOf(shapes: readonly Shape[], isMany: boolean): Geometry | null
export function areaAround(hole: Shape, areas: readonly Shape[]): Shape | undefined
