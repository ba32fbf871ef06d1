// Owns the positions of a geometry as pages list them. The gateway uses it for what it sends, and the page of a feature for
// what it reads.

/** What the third coordinate is called. */
export const HEIGHT = 'Height'

/**
 * Returns the positions of a geometry as a table of texts. If it has several parts, a row begins with the number of its
 * own: 2.1 is the first ring of the second polygon.
 * @param geometry of GeoJSON, or null
 * @param axes what the first and the second coordinate are called
 */
export function listPositions(geometry, axes) {
  const found = []
  const visit = (coordinates, part) => {
    if (coordinates.length > 0 && !Array.isArray(coordinates[0])) found.push({ part, coordinates })
    else
      for (const [index, inner] of coordinates.entries())
        visit(inner, Array.isArray(inner[0]) ? [...part, index + 1] : part)
  }
  const visitGeometry = ({ coordinates, geometries }, part) => {
    if (!geometries) visit(coordinates, part)
    else for (const [index, one] of geometries.entries()) visitGeometry(one, [...part, index + 1])
  }
  if (geometry) visitGeometry(geometry, [])
  const parts = new Set(found.map(({ part }) => part.join('.')))
  const hasParts = parts.size > 1
  const hasHeights = found.some(({ coordinates }) => coordinates.length > 2)
  return {
    head: [...(hasParts ? ['Part'] : []), ...axes, ...(hasHeights ? [HEIGHT] : [])],
    rows: found.map(({ part, coordinates }) => [
      ...(hasParts ? [part.join('.')] : []),
      ...coordinates.map(String),
    ]),
  }
}
