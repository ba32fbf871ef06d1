// Tests what is read from the texts of coordinate systems, and the boxes in degrees around boxes in them.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findSystem, makeSystem } from '../../features/values/coordinate-system.ts'
import { surround } from '../../features/values/edge.ts'

const geographic = (rest: string) =>
  `GEOGCS["x",DATUM["x",SPHEROID["x",6378137,298]],UNIT["degree",0.0174532925199433]${rest}]`
const projected = (unit: string, axes: string) =>
  `PROJCS["x",${geographic('')},PROJECTION["x"],UNIT[${unit}]${axes},AUTHORITY["EPSG","1"]]`
const describe = (text: string, code = '1') => {
  const system = makeSystem({ srid: 1, authority: 'EPSG', code, text })
  return system && [system.isNorthFirst, system.isGeographic, system.decimals]
}
const METRE = '"metre",1'
const EAST_FIRST = ',AXIS["E",EAST],AXIS["N",NORTH]'

test('north is first in a text without axes, and where the axes say so', () => {
  assert.deepEqual(describe(projected(METRE, EAST_FIRST)), [false, false, 4])
  assert.deepEqual(describe(projected(METRE, '')), [true, false, 4])
  assert.deepEqual(describe(projected(METRE, ',AXIS["X",NORTH],AXIS["Y",EAST]')), [true, false, 4])
  // PROJ leaves these as they are: the first is not north.
  assert.deepEqual(describe(projected(METRE, ',AXIS["Y",WEST],AXIS["X",SOUTH]')), [false, false, 4])
  assert.deepEqual(describe(geographic('')), [true, true, 9])
  assert.deepEqual(describe(geographic('').replace('"x"', '"RGSPM06 (lon-lat)"')), [false, true, 9])
})

test('axes are called as the text calls them, and otherwise as is usual in their order', () => {
  const axesOf = (text: string) => makeSystem({ srid: 1, authority: 'EPSG', code: '1', text })?.axes
  assert.deepEqual(axesOf(projected(METRE, ',AXIS["Easting",EAST],AXIS["Northing",NORTH]')), [
    'Easting',
    'Northing',
  ])
  assert.deepEqual(axesOf(projected(METRE, '')), ['Northing', 'Easting'])
  assert.deepEqual(axesOf(projected(METRE, ',AXIS["X",NORTH],AXIS["Y",EAST]')), ['X (north)', 'Y (east)'])
  assert.deepEqual(axesOf(geographic('')), ['Latitude', 'Longitude'])
  assert.deepEqual(axesOf(geographic('').replace('"x"', '"RGSPM06 (lon-lat)"')), ['Longitude', 'Latitude'])
  assert.deepEqual(
    axesOf(projected(METRE, ',AXIS["(E)",east,ORDER[1]],AXIS["northing (N)",north,ORDER[2]]')),
    ['E (east)', 'Northing'],
  )
})

test('the heights of a compound system, and the system to which one is bound, do not count', () => {
  const heights = 'VERT_CS["h",VERT_DATUM["h",2005],UNIT["foot",0.3048],AXIS["Up",UP]]'
  assert.deepEqual(describe(`COMPD_CS["c",${projected('"km",1000', EAST_FIRST)},${heights}]`), [
    false,
    false,
    7,
  ])
  assert.deepEqual(describe(`COMPD_CS["c",${geographic('')},${heights}]`), [true, true, 9])
  const three = `GEOGCRS["WGS 84",DATUM["x",ELLIPSOID["x",6378137,298,LENGTHUNIT["metre",1]]],CS[ellipsoidal,3],AXIS["latitude",north,ORDER[1],ANGLEUNIT["degree",0.0174532925199433]],AXIS["longitude",east,ORDER[2],ANGLEUNIT["degree",0.0174532925199433]],AXIS["height",up,ORDER[3],LENGTHUNIT["metre",1]]]`
  assert.deepEqual(describe(three), [true, true, 9])
  assert.deepEqual(describe(`BOUNDCRS[SOURCECRS[${projected(METRE, EAST_FIRST)}],TARGETCRS[${three}]]`), [
    false,
    false,
    4,
  ])
})

test('systems without positions on the ground, without a unit or without a name are none', () => {
  assert.equal(describe('GEOCCS["x",DATUM["x"],UNIT["metre",1],AXIS["X",OTHER]]'), undefined)
  assert.equal(describe(''), undefined)
  assert.equal(describe(projected(METRE, EAST_FIRST), 'a/b'), undefined)
})

test('a system is found by both forms of its URI, in any version, and by nothing else', () => {
  const system = makeSystem({
    srid: 1,
    authority: 'EPSG',
    code: '25832',
    text: projected(METRE, EAST_FIRST),
  })!
  for (const uri of [
    'http://www.opengis.net/def/crs/EPSG/0/25832',
    'https://www.opengis.net/def/crs/EPSG/9.8.1/25832',
    'urn:ogc:def:crs:EPSG::25832',
    'urn:ogc:def:crs:EPSG:9.8:25832',
  ])
    assert.equal(findSystem(uri, [system]), system, uri)
  for (const uri of ['EPSG:25832', '[EPSG:25832]', 'http://www.opengis.net/def/crs/OGC/0/25832', '25832', ''])
    assert.equal(findSystem(uri, [system]), undefined, uri)
})

const sidesOf = (edge: [number, number][]) => {
  const box = surround(edge)
  return box && [box.minLongitude, box.minLatitude, box.maxLongitude, box.maxLatitude]
}

test('a box surrounds its edge; across the antimeridian all longitudes, and around a pole up to it', () => {
  assert.deepEqual(
    sidesOf([
      [1, 2],
      [3, 2],
      [3, 4],
      [1, 4],
      [1, 2],
    ]),
    [0.98, 1.98, 3.02, 4.02],
  )
  assert.deepEqual(
    sidesOf([
      [179, 2],
      [-179, 2],
      [-179, 4],
      [179, 4],
      [179, 2],
    ])!.filter((_, at) => at % 2 === 0),
    [-180, 180],
  )
  const around = [-135, -45, 45, 135, -135].map((longitude): [number, number] => [longitude, 80])
  assert.deepEqual([sidesOf(around)![0], sidesOf(around)![3]], [-180, 90])
  assert.equal(sidesOf(around.map(([longitude, latitude]) => [longitude, -latitude]))![1], -90)
  assert.equal(
    sidesOf([
      [1, 2],
      [Number.POSITIVE_INFINITY, 2],
    ]),
    undefined,
  )
})
