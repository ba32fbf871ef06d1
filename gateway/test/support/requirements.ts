// Owns the identifiers of the requirements of each conformance class, as the standards name them, behind the class.

const of = (standard: string, requirements: Readonly<Record<string, string>>, version = '1.0') =>
  Object.entries(requirements).map(
    ([name, ids]) =>
      [
        `http://www.opengis.net/spec/${standard}/${version}/conf/${name}`,
        ids.split(' ').map((id) => (id === '*' ? `/conf/${name}` : `/req/${name}/${id}`)),
      ] as const,
  )

const ENCODINGS =
  'basic-cql2 advanced-comparison-operators case-insensitive-comparison accent-insensitive-comparison basic-spatial-functions basic-spatial-functions-plus spatial-functions temporal-functions arrays property-property functions arithmetic'

/** Requirements that both Common, Part 5 and drafts of Features, Part 4 have. */
const EDITING = {
  'create-replace-delete':
    'post-op post-content-type post-body post-response post-response-rid put-op put-content-type put-body put-response put-rid-exception delete-op delete-response options-op options-response',
  update: 'methods update-patch-op update-patch-body update-patch-response',
  'optimistic-locking-etags':
    'get-etag-response put-etag-response patch-etag-response ifmatch-put-op ifmatch-put-eval ifmatch-patch-op ifmatch-patch-eval',
  'optimistic-locking-timestamps':
    'get-last-modified-response put-last-modified-response patch-last-modified-response ifunmodifiedsince-put-op ifunmodifiedsince-put-eval ifunmodifiedsince-patch-op ifunmodifiedsince-patch-eval',
}

/** An asterisk stands for a class as a whole, whose requirements have no tests of their own. */
export const REQUIREMENTS: ReadonlyMap<string, readonly string[]> = new Map([
  ...of('ogcapi-features-1', {
    core: 'root-op root-success api-definition-op api-definition-success conformance-op conformance-success http query-param-unknown query-param-invalid crs84 fc-md-op fc-md-success fc-md-links fc-md-items fc-md-items-links fc-md-extent sfc-md-op sfc-md-success fc-op fc-limit-definition fc-limit-response-1 fc-bbox-definition fc-bbox-response fc-time-definition fc-time-response fc-response fc-links fc-rel-type fc-timeStamp fc-numberMatched fc-numberReturned f-op f-success f-links',
    geojson: 'definition content',
    html: 'definition content',
    oas30: 'oas-definition-1 oas-definition-2 oas-impl completeness exceptions-codes',
  }),
  ...of('ogcapi-features-2', {
    crs: 'crs-uri fc-md-crs-list fc-md-storageCrs fc-md-storageCrs-valid-value fc-md-crs-list-global fc-bbox-crs-definition fc-bbox-crs-valid-value bbox-crs-exception fc-bbox-crs-default-value fc-bbox-crs-action fc-crs-definition fc-crs-valid-value crs-exception fc-crs-default-value fc-crs-action geojson ogc-crs-header ogc-crs-header-value',
  }),
  ...of('ogcapi-features-3', {
    queryables: 'queryables-link get-queryables-op get-queryables-response expression-construction',
    'queryables-query-parameters': 'parameters',
    filter:
      'filter-param filter-lang-param filter-crs-wgs84 filter-crs-param mixing-expressions get-functions-operation get-functions-response-json response',
    'features-filter':
      'get-queryables-op queryables-link filter-param filter-lang-param filter-crs-param response',
  }),
  ...of('ogcapi-common-5', EDITING),
  ...of('ogcapi-features-4', {
    ...EDITING,
    features:
      'resources-endpoint resource-endpoint collection-endpoint content-crs-header default-crs crs-other-crs schema update-json-merge-patch geojson-create-replace',
  }),
  ...of('ogcapi-common-3', {
    schemas: '*',
    'advanced-property-roles': '*',
    'returnables-and-receivables': '*',
    queryables: '*',
    sortables: '*',
    'profile-parameter': 'profile-param profile-param-response',
  }),
  ...of('json-fg-1', {
    core: 'schema-valid metadata instant interval instant-and-interval utc coordinate-dimension geometry-wgs84 geometry-no-jsonfg-extension valid-geometry place-geometries same-crs fallback axis-order',
    'types-schemas': 'metadata feature-type geometry-dimension feature-schemas single-feature-schema',
    profiles: 'rfc7946 jsonfg jsonfg-plus',
    api: 'profile-parameter',
  }),
  ...of('ogcapi-tiles-1', {
    core: 'conformance-success tc-error tc-op tc-success tc-tilecol-definition tc-tilematrix-definition tc-tilerow-definition',
    tileset: 'description',
    'tilesets-list': 'tileset-path tileset-links',
    'dataset-tilesets': 'landingpage operation',
    'geodata-tilesets': 'desc-links operation',
    'collections-selection': 'query-collections collections-response',
    oas30: 'completeness operation-id',
    mvt: 'content',
  }),
  ...of(
    'tms',
    {
      tilematrixset: '*',
      'json-tilematrixset': '*',
      tilesetmetadata: '*',
      'json-tilesetmetadata': '*',
      tilematrixsetlimits: '*',
      'json-tilematrixsetlimits': '*',
    },
    '2.0',
  ),
  ...of('cql2', {
    'cql2-text': `${ENCODINGS} escaping`,
    'cql2-json': ENCODINGS,
    'basic-cql2': 'cql2-filter property binary-comparison-predicate null-predicate',
    'advanced-comparison-operators': 'like-predicate between-predicate in-predicate',
    'case-insensitive-comparison': 'casei-function',
    'accent-insensitive-comparison': 'accenti-function',
    'basic-spatial-functions': 'spatial-functions spatial-predicate',
    'basic-spatial-functions-plus': 'spatial-data-types',
    'spatial-functions': 'spatial-functions',
    'temporal-functions': 'temporal-functions temporal-predicates',
    'array-functions': 'array-predicates',
    'property-property': 'withdraw-permissions',
    functions: 'functions get-functions-operation get-functions-response-json',
    arithmetic: 'arithmetic',
  }),
])
