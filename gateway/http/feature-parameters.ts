// Owns the parameters that choose features and their properties, which items and tiles share.

import { DRAFT_LANGUAGE, FILTER_LANGUAGES, fromDraft } from '../features/filter/filter.ts'
import { CRS84 } from '../features/values/coordinate-system.ts'
import { Type } from './type.ts'

/** Parameters of a box. */
export const boxParameters = {
  bbox: Type.Optional(
    Type.Array(Type.Number(), {
      minItems: 4,
      maxItems: 6,
      description:
        'Selects features that intersect the box: west, south, east, north in degrees, or with heights west, south, low, east, north, high. If west is greater than east, the box crosses the antimeridian. In the system of bbox-crs: the least coordinate of each axis, then the greatest.',
      example: [5, 45, 11, 48],
      'x-expected': 'four or six numbers separated by commas',
    }),
  ),
  'bbox-crs': Type.Optional(
    Type.String({
      format: 'uri',
      description:
        'Coordinate system of bbox, as a URI from the list of the collection; by default CRS84 (longitude, latitude).',
      example: 'http://www.opengis.net/def/crs/EPSG/0/3857',
      'x-expected': 'the URI of a coordinate system',
    }),
  ),
}

/** Parameters that select features. */
export const selectionParameters = {
  datetime: Type.Optional(
    Type.String({
      description: 'Selects features of an instant or an interval, either side of which may be open (..).',
      example: '2018-02-12T00:00:00Z/2018-03-18T12:31:12Z',
      'x-expected': 'an RFC 3339 date or time, or an interval of two',
    }),
  ),
  filter: Type.Optional(
    Type.String({
      description:
        'Selects features for which the condition is true, in the language of filter-lang. It can name every property of the collection, and its geometry.',
      example: "name LIKE 'B%' AND population > 100000",
      'x-expected': 'a condition in CQL2',
    }),
  ),
  'filter-lang': Type.Optional(
    Type.Enum([...FILTER_LANGUAGES], {
      type: 'string',
      default: FILTER_LANGUAGES[0],
      description: 'Language of the filter.',
      example: FILTER_LANGUAGES[0],
      'x-expected': FILTER_LANGUAGES.join(' or '),
    }),
  ),
  'filter-crs': Type.Optional(
    Type.String({
      description:
        'Coordinate system of the geometries in the filter, as a URI from the list of the collection; positions are in the order of its axes.',
      default: CRS84.uri,
      example: CRS84.uri,
      'x-expected': 'the URI of a coordinate system',
    }),
  ),
}

export const propertiesParameter = Type.Optional(
  Type.Array(Type.String(), {
    description: 'Properties that the features of the answer have; all if it is left out.',
    example: ['name'],
    'x-expected': 'names of properties separated by commas',
  }),
)

/** Takes a filter in the language of the drafts, which GDAL sends, for one of the standard, before it is validated. */
export function takeDraft(query: Record<string, unknown>) {
  if (query['filter-lang'] !== DRAFT_LANGUAGE) return
  query['filter-lang'] = FILTER_LANGUAGES[0]
  if (typeof query.filter === 'string') query.filter = fromDraft(query.filter)
}
