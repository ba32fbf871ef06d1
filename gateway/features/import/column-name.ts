// Owns the names of the columns that an import creates.

/** Bytes of the longest name that PostgreSQL does not cut off. */
export const MAX_NAME_BYTES = 63
export const GEOMETRY_COLUMN = 'geom'

/** Columns that Tessera or PostgreSQL creates; a property with such a name gets an underscore. */
const OWN_COLUMNS = new Set([
  'id',
  GEOMETRY_COLUMN,
  'cell',
  'updated_at',
  'tableoid',
  'xmin',
  'cmin',
  'xmax',
  'cmax',
  'ctid',
])

/**
 * Chooses the name of a property's column.
 * @param taken names of the columns that other properties have
 * @returns undefined if PostgreSQL cannot have a column of this name
 */
export function columnNameOf(property: string, taken: ReadonlySet<string>): string | undefined {
  let name = OWN_COLUMNS.has(property) ? `${property}_` : property
  while (taken.has(name)) name += '_'
  return name === '' || name.includes('\0') || Buffer.byteLength(name) > MAX_NAME_BYTES ? undefined : name
}
