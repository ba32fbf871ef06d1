// Tests that independent clients read a collection in the coordinate systems that it lists: OWSLib, and a newer GDAL than
// distributions have, which asks for no system.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { before, test } from 'node:test'
import { promisify } from 'node:util'
import { startGateway } from '../support/gateway.ts'
import { needsReaders, python } from '../support/python.ts'

const { client, session, catalog, events } = await startGateway('--crs', 'EPSG:25832,EPSG:2154')
const run = promisify(execFile)

before(async () => {
  await session.query(`
    create table surveyed (id int primary key, geom geometry(PointZ, 25832));
    insert into surveyed values
      (1, 'srid=25832;point z(500000.1234 5200000.5678 431.25)'), (2, 'srid=25832;point z(400000 5300000 0)')`)
  await catalog.reload()
})

/** Reads a collection with a program of Python, which gets the gateway's URL and the argument. */
async function readWith(program: string, argument: string) {
  const { stdout } = await run(python!, ['-c', program, client.url, argument])
  return JSON.parse(stdout)
}

/** Reads a collection with GDAL. @returns its system as "AUTHORITY:CODE", and positions by id, first axis first */
async function readIn(system: string): Promise<{ crs: string; positions: Record<string, number[]> }> {
  const program = `
import json, sys, pyogrio
frame = pyogrio.read_dataframe('OAPIF:' + sys.argv[1] + '/collections/surveyed', fid_as_index=True, CRS=sys.argv[2])
positions = {str(index): list(point.coords[0]) for index, point in zip(frame['id'] if 'id' in frame else frame.index, frame.geometry)}
print(json.dumps({'crs': ':'.join(frame.crs.to_authority()), 'positions': positions}))`
  return readWith(program, system)
}

/** What PostGIS makes of the rows. */
async function expectedIn(srid: number) {
  const rows = await session.query<{ id: number; x: number; y: number; z: number }>(
    `select id, st_x(g) as x, st_y(g) as y, st_z(g) as z from (select id, st_transform(geom, ${srid}) g from surveyed) t`,
  )
  return Object.fromEntries(rows.map(({ id, x, y, z }) => [id, [x, y, z]]))
}

/** Asserts that positions are those of PostGIS, to a tenth of a millimetre. */
async function assertIn(srid: number, positions: Record<string, number[]>) {
  const expected = await expectedIn(srid)
  assert.deepEqual(Object.keys(positions), Object.keys(expected))
  for (const [id, position] of Object.entries(expected))
    for (const [axis, value] of position.entries())
      assert.ok(
        Math.abs(positions[id]![axis]! - value) < 0.0001,
        `${id}: ${positions[id]} and not ${position}`,
      )
}

for (const srid of [25832, 2154, 3857]) {
  test(`GDAL reads in EPSG:${srid}`, needsReaders, async () => {
    const first = events.length
    const { crs, positions } = await readIn(`EPSG:${srid}`)
    assert.equal(crs, `EPSG:${srid}`)
    await assertIn(srid, positions)
    // The gateway made them: GDAL did not project what it had read in degrees.
    const asked = events.slice(first).flatMap((event) => (event.type === 'request-finished' ? event.url : []))
    assert.ok(
      asked.some((url) => url.includes('/items') && decodeURIComponent(url).includes(`/EPSG/0/${srid}`)),
      asked.join('\n'),
    )
  })

  test(`OWSLib reads in EPSG:${srid}`, needsReaders, async () => {
    const program = `
import json, sys
from owslib.ogcapi.features import Features
items = Features(sys.argv[1]).collection_items('surveyed', crs=sys.argv[2])
print(json.dumps({str(one['id']): one['geometry']['coordinates'] for one in items['features']}))`
    await assertIn(srid, await readWith(program, `http://www.opengis.net/def/crs/EPSG/0/${srid}`))
  })
}
