// Owns the addresses of the pages of features, which keep the coordinate system that a person has chosen.

/** The system of coordinates in the address of this page; null for the usual one. */
export const system = new URL(location).searchParams.get('crs')

const pageAt = (path) => `${path}?f=html${system === null ? '' : `&crs=${encodeURIComponent(system)}`}`

/** Returns the address of the page of a feature. @param items URL of the features of its collection */
export const itemAddress = (items, id) => pageAt(`${items}/${encodeURIComponent(id)}`)

/** Returns the address of the page of features. @param items their URL */
export const itemsAddress = (items) => pageAt(items)
