// Owns the comparison of answers before anything is measured: nobody is measured for a wrong answer.

import type { Ask } from './ask.ts'
import type { Case } from './cases.ts'
import { asksOf } from './cases.ts'
import { conditionOf, psql } from './floor.ts'
import type { Feature, Side } from './sides.ts'

/** Asks of each case that are compared. */
const SAMPLES = 3

/**
 * Compares answers of a side with what the table has.
 * @returns the mean number of features in its answers; 1 for a change
 * @throws Error that says what is wrong
 */
export async function checkAnswers(side: Side, one: Case, socket: string): Promise<number> {
  let count = 0
  for (const ask of asksOf(one).slice(0, SAMPLES)) count += await checkAnswer(side, ask, socket)
  return count / SAMPLES
}

async function checkAnswer(side: Side, ask: Ask, socket: string): Promise<number> {
  if (ask.change) return checkChange(side, ask, socket)
  const features = await side.answer(ask)
  const rows = await psql(
    socket,
    `select id, name, st_npoints(geom) from ${ask.table} where ${conditionOf(ask, true)}`,
  )
  const expected = new Map(rows.map((row) => [row.split('\t')[0]!, row]))
  const found = new Set(features.map(rowOf))
  const wrong = [...found].find((row) => expected.get(row.split('\t')[0]!) !== row)
  if (wrong) fail(side, ask, `has a feature that does not belong there: ${wrong}`)
  const due = Math.min(ask.limit ?? 1, expected.size)
  if (features.length !== due || found.size !== due)
    fail(side, ask, `has ${features.length} features, ${found.size} of them different, and not ${due}`)
  return features.length
}

/** No change sets this population. */
const NO_POPULATION = -1

async function checkChange(side: Side, ask: Ask, socket: string): Promise<number> {
  const { table, id, population } = ask
  const count = `select count(*) from ${table} where population = ${population}`
  if (ask.change === 'update')
    await psql(socket, `update ${table} set population = ${NO_POPULATION} where id = ${id}`)
  const [before] = await psql(socket, count)
  await side.answer(ask)
  const [after] = await psql(socket, count)
  if (Number(after) !== Number(before) + 1) fail(side, ask, 'did not change one row')
  return 1
}

/** Returns what must be equal to the table's row. */
const rowOf = ({ id, properties, geometry }: Feature) =>
  [id ?? properties.id, properties.name, countPositions(geometry.coordinates)].join('\t')

function countPositions(coordinates: unknown): number {
  if (!Array.isArray(coordinates)) return 0
  return typeof coordinates[0] === 'number'
    ? 1
    : coordinates.reduce((sum: number, part) => sum + countPositions(part), 0)
}

function fail(side: Side, ask: Ask, what: string): never {
  throw new Error(`the answer of ${side.name} to ${JSON.stringify(ask)} ${what}`)
}
