// Owns the names of the columns that an import makes.

export const GEOMETRY_COLUMN = 'geom'

/** Columns that Tessera makes or PostgreSQL; a property of such a name gets an underscore. */
export const OWN_COLUMNS = new Set([
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

export const MAX_NAME_BYTES = 63
