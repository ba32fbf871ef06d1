// Owns the types of positions.js.

/** A geometry of GeoJSON, as it is parsed from its JSON. */
export type ListedGeometry = {
  readonly coordinates?: readonly unknown[]
  readonly geometries?: readonly ListedGeometry[]
}

export const HEIGHT: string

export function listPositions(
  geometry: ListedGeometry | null,
  axes: readonly string[],
): { readonly head: string[]; readonly rows: string[][] }
