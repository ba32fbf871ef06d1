// Owns the cases: what is asked of every side, by how many clients.

import { drawRequests } from '../measure.ts'
import { type Ask, COUNTRIES } from './ask.ts'
import { COUNTY_GRID, GRID, nameOf } from './tables.ts'

export type Case = {
  readonly name: string
  readonly clients: readonly number[]
  /** Least and greatest value of each variable; each request draws its own. */
  readonly ranges: Readonly<Record<string, readonly [number, number]>>
  readonly ask: <Value>(values: Record<string, Value>) => Ask<Value>
  /** For a case of growth. */
  readonly growth?: { readonly rows: number; readonly isManaged: boolean }
}

/** Clients with which growth is measured: enough to keep two cores busy, too few to wait for one another. */
const GROWTH_CLIENTS = [4]

/** @param ids greatest id of the cities */
export function makeCases(clients: readonly number[], ids: number, growth: readonly number[]): Case[] {
  const table = 'bench.cities'
  const inGrid = ({ west, south, east, north }: typeof GRID) => ({
    x: [west, east] as const,
    y: [south, north] as const,
  })
  const pageOf =
    (from: string, degrees: number, above?: number) =>
    <Value>({ x, y }: Record<string, Value>): Ask<Value> => ({
      table: from,
      limit: 100,
      corner: [x!, y!],
      degrees,
      ...(above === undefined ? {} : { above }),
    })
  const written = 'bench.cities_written'
  return [
    {
      name: 'item by id',
      clients,
      ranges: { id: [1, ids] },
      ask: ({ id }) => ({ table, id: id! }),
    },
    { name: 'page of 100 points in a box', clients, ranges: inGrid(GRID), ask: pageOf(table, 1) },
    {
      name: 'page of 100 polygons in a box',
      clients,
      ranges: inGrid(COUNTY_GRID),
      ask: pageOf('bench.counties', 5),
    },
    {
      name: 'page of 100 of a country',
      clients,
      ranges: { country: [1, COUNTRIES.length] },
      ask: ({ country }) => ({ table, limit: 100, country: country! }),
    },
    {
      name: 'page of 100 by CQL2, population and box',
      clients,
      ranges: inGrid(GRID),
      ask: pageOf(table, 3, 5_000),
    },
    ...[false, true].flatMap((isManaged) =>
      growth.map((rows) => ({
        name: `page of 100 of ${rows.toLocaleString('en')} rows`,
        clients: GROWTH_CLIENTS,
        ranges: inGrid(GRID),
        ask: pageOf(`${isManaged ? 'public' : 'bench'}.${nameOf(rows)}`, 1),
        growth: { rows, isManaged },
      })),
    ),
    // Changes run last, because they make their table larger.
    {
      name: 'insert',
      clients,
      ranges: { x: [-180, 179], y: [-90, 89], population: [1, 1e9] },
      ask: ({ x, y, population }) => ({
        table: written,
        change: 'insert',
        corner: [x!, y!],
        population: population!,
      }),
    },
    {
      name: 'update',
      clients,
      ranges: { id: [1, ids], population: [1, 1e9] },
      ask: ({ id, population }) => ({ table: written, change: 'update', id: id!, population: population! }),
    },
  ]
}

/** Draws asks, the same ones for every side. */
export const asksOf = ({ ranges, ask }: Case): Ask[] =>
  drawRequests((random) =>
    ask(
      Object.fromEntries(
        Object.entries(ranges).map(([name, [least, greatest]]) => [name, random(least, greatest)]),
      ),
    ),
  )

/** Returns commands with which pgbench draws the values of an ask, and that ask. */
export function drawnByPgbench({ ranges, ask }: Case): { choose: string; ask: Ask<string> } {
  const names = Object.keys(ranges)
  return {
    choose: names.map((name) => `\\set ${name} random(${ranges[name]!.join(', ')})\n`).join(''),
    ask: ask(Object.fromEntries(names.map((name) => [name, `:${name}`]))),
  }
}
