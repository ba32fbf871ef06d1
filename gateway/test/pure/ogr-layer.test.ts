// Tests what is read from a report of GDAL, and which layer is imported.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chooseLayer, parseLayers } from '../../features/import/sources/ogr-layer.ts'

const REPORT = `INFO: Open of \`roads.gpkg'
      using driver \`GPKG' successful.

Layer name: roads: all
Geometry: Line String
Feature Count: 12
Layer SRS WKT:
PROJCRS["ETRS89 / UTM zone 32N",
    ID["EPSG",25832]]
Data axis to CRS axis mapping: 1,2
FID Column = fid
Geometry Column = geom
name: String (80.0) NOT NULL DEFAULT 'a: Integer (0.0)'
a: b: Integer64 (0.0)
small: Integer(Int16) (0.0), alternative name="kind: small"
single: Real(Float32) (15.2)
photo: Binary (0.0)
shades: StringList (0.0)
new: String(Unheard) (0.0)
other: Unheard (0.0)

Layer name: codes
Geometry: None
Feature Count: 1
Layer SRS WKT:
(unknown)
code: String (0.0)

Layer name: plans
Geometry (outline): Polygon
Geometry (centre): Point
SRS WKT (outline):
(unknown)
SRS WKT (centre):
GEOGCRS["WGS 84"]
`

test('layers have names, geometries, counts, systems, ids and types of fields', () => {
  const [roads, codes, plans] = parseLayers(REPORT)
  assert.deepEqual(roads, {
    name: 'roads: all',
    geometry: 'Line String',
    features: 12,
    hasSystem: true,
    idColumn: 'fid',
    columnTypes: new Map([
      ['name', 'text'],
      ['a: b', 'bigint'],
      ['small', 'smallint'],
      ['single', 'real'],
      ['photo', 'bytea'],
      ['shades', 'jsonb'],
      ['new', 'text'],
    ]),
    binary: new Set(['photo']),
  })
  assert.deepEqual(
    [codes!.geometry, codes!.features, codes!.hasSystem, codes!.idColumn],
    [undefined, 1, false, undefined],
  )
  assert.deepEqual([plans!.geometry, plans!.features, plans!.hasSystem], ['Polygon', undefined, false])
})

test('the only layer is chosen, the only one with geometries, or the named one', () => {
  const [roads, codes, plans] = parseLayers(REPORT) as [any, any, any]
  assert.equal(chooseLayer([codes], undefined), codes)
  assert.equal(chooseLayer([codes, roads], undefined), roads)
  assert.equal(chooseLayer([roads, codes, plans], 'codes'), codes)
  assert.throws(
    () => chooseLayer([roads, codes, plans], undefined),
    /several layers.*--layer: roads: all \(Line String, 12 features\), codes \(no geometries, 1 feature\), plans \(Polygon\)/,
  )
  assert.throws(() => chooseLayer([roads], 'road'), /no layer road; it has roads: all/)
  assert.throws(() => chooseLayer([], undefined), /no layer in it/)
})
