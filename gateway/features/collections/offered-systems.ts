// Owns the coordinate systems in which collections are served: those that the operator names, and those of the tables.

import type { Database } from '../../database/contract.ts'
import type { Statement } from '../../database/statement.ts'
import { UserError } from '../../errors.ts'
import { type CoordinateSystem, makeSystem, WGS84 } from '../values/coordinate-system.ts'
import type { OfferedSystems } from './collection.ts'

/** Web Mercator, in which nearly all web maps are drawn. */
const WEB_MERCATOR = 3857

/**
 * Returns rows of a system's number, its authority and code, and its well-known text. Each statement looks for a table
 * of PostGIS, whose schema is in the search path.
 */
const compileSystems = (srids: readonly number[], codes: readonly string[]): Statement => ({
  name: 'tessera_systems',
  text: `select srid::text, auth_name, auth_srid::text, srtext from spatial_ref_sys
    where srid = any($1::int[]) or upper(auth_name) || ':' || auth_srid = any($2::text[]) order by srid`,
  values: [srids, codes],
})

type Found = { readonly srid: number; readonly name: string; readonly system: CoordinateSystem | undefined }

async function readSystems(
  database: Database,
  srids: readonly number[],
  names: readonly string[],
): Promise<Found[]> {
  const rows = await database.read(compileSystems(srids, names))
  return rows.map(([number, authority, code, text]) => {
    const srid = Number(number)
    const system = makeSystem({ srid, authority: authority ?? '', code: code ?? '', text: text ?? '' })
    return { srid, name: `${authority}:${code}`.toUpperCase(), system }
  })
}

/** Returns those of these codes that are no system of the database with positions on the ground. */
export async function findUnknownCodes(database: Database, codes: readonly string[]): Promise<string[]> {
  const found = codes.length > 0 ? await readSystems(database, [], codes) : []
  return codes.filter((code) => !found.some(({ name, system }) => name === code && system))
}

/** @param codes systems that the operator names, as in `EPSG:25832` */
export function makeOfferedSystems(database: Database, codes: readonly string[]) {
  const known = new Map<number, CoordinateSystem | undefined>()
  const named = new Map<string, CoordinateSystem>()
  let common: readonly CoordinateSystem[] | undefined

  const readCommon = async () => {
    const found = await readSystems(database, [WEB_MERCATOR], codes)
    const chosen = codes.map((code) => {
      const system = found.find(({ name }) => name === code)?.system
      if (system) return system
      throw new UserError(
        `TESSERA_CRS names ${code}, which is no system of the database with positions on the ground. The table spatial_ref_sys of PostGIS lists its systems.`,
      )
    })
    const web = found.find(({ srid }) => srid === WEB_MERCATOR)?.system
    return [...new Set([WGS84, ...(web ? [web] : []), ...chosen])]
  }

  return {
    /**
     * Returns the systems for tables of these numbers. Each is read once: a definition that changes is that of another
     * system.
     * @param further codes of systems that the operator names for single collections; unknown ones are left out
     * @throws UserError if the operator names a system for all that the database does not have
     */
    async read(srids: readonly number[], further: readonly string[]): Promise<OfferedSystems> {
      common ??= await readCommon()
      for (const system of common) known.set(system.srid, system)
      const others = [...new Set(srids)].filter((srid) => !known.has(srid))
      if (others.length > 0) {
        const found = await readSystems(database, others, [])
        for (const srid of others) known.set(srid, found.find((one) => one.srid === srid)?.system)
      }
      const own = srids.flatMap((srid): [number, CoordinateSystem][] => {
        const system = known.get(srid)
        return system ? [[srid, system]] : []
      })
      const missing = [...new Set(further)].filter((code) => !named.has(code))
      if (missing.length > 0)
        for (const { srid, name, system } of await readSystems(database, [], missing)) {
          // The same system under both names is one in every list.
          if (!known.get(srid)) known.set(srid, system)
          const one = known.get(srid)
          if (one) named.set(name, one)
        }
      return { common, bySrid: new Map(own), byCode: new Map(named) }
    },
  }
}
