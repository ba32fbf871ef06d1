// Owns the results of the benchmark, and the tables of its report.

import { type Load, median, type Rows, span } from '../measure.ts'
import type { Case } from './cases.ts'
import type { PeerSide } from './sides.ts'
import { tessera } from './tessera.ts'

/** What one side reached in one case with one number of clients. */
export type Result = {
  readonly one: Pick<Case, 'name' | 'growth'>
  readonly clients: number
  readonly side: string
  /** Mean number of features in an answer. */
  readonly features: number
  /** One for each round; undefined if the side failed. */
  readonly loads: readonly (Load | undefined)[]
}

/** A table read to its end by one side: features per second, one for each round. */
export type Read = {
  readonly way: 'paging' | 'export'
  readonly side: string
  readonly rates: readonly number[]
}

export type Found = {
  readonly results: readonly Result[]
  readonly reads: readonly Read[]
  readonly peers: readonly PeerSide[]
  readonly facts: Readonly<Record<string, unknown>>
  /** What was not measured, and why. */
  readonly notes: readonly string[]
}

export function tablesOf({ results, reads, peers }: Found): Record<string, Rows> {
  return {
    'Requests and features per second': [
      ...results.filter(({ one }) => !one.growth).map((result) => rowOf(result, results)),
      ...reads.map(({ way, side, rates }) => ({
        case: `${way} of all cities`,
        clients: 1,
        side,
        ...rateColumns(
          rates,
          isOurs({ side }) ? [] : reads.find((read) => read.way === way && isOurs(read))?.rates,
        ),
        'p50, ms': '–',
        'p95, ms': '–',
        'p99, ms': '–',
        features: 'all',
      })),
    ],
    Growth: results.filter(({ one }) => one.growth).map((result) => growthRowOf(result, results)),
    'Start and memory': peers.map(({ name, starts, atRest, afterLoad, exportGrowth }) => ({
      peer: name,
      'first answer, ms': Math.round(median(starts)),
      processes: atRest!.processes,
      'at rest, MB': Math.round(atRest!.total),
      'largest process, MB': Math.round(atRest!.largest),
      'after load, MB': afterLoad ? Math.round(afterLoad.total) : '–',
      'its largest process, MB': afterLoad ? Math.round(afterLoad.largest) : '–',
      'added during the export, MB': exportGrowth === undefined ? '–' : Math.round(exportGrowth),
    })),
  }
}

/** Returns the median of a figure over the rounds in which the side did not fail; undefined if it failed in all. */
export function medianOf({ loads }: Pick<Result, 'loads'>, figure: (load: Load) => number) {
  const measured = loads.filter((load) => load !== undefined)
  return measured.length === 0 ? undefined : median(measured.map(figure))
}

const inMs = (result: Result, figure: (load: Load) => number) => {
  const value = medianOf(result, figure)
  return value === undefined ? 'failed' : Number(value.toFixed(2))
}

type Rates = readonly (number | undefined)[]

const isOurs = ({ side }: { readonly side: string }) => side === tessera.name

/** Returns the columns of the rate, and of the ratios of Tessera's in the same round to it. */
function rateColumns(rates: Rates, ours: Rates = []) {
  const measured = rates.filter((rate) => rate !== undefined)
  const ratios = rates.flatMap((rate, round) => (rate && ours[round] ? [ours[round] / rate] : []))
  return {
    'per second': measured.length === 0 ? 'failed' : Math.round(median(measured)),
    'Tessera : side': ratios.length === 0 ? '–' : Number(median(ratios).toFixed(2)),
    'least .. most': ratios.length === 0 ? '–' : span(ratios),
  }
}

function rowOf(result: Result, results: readonly Result[]) {
  const { one, clients, side, features } = result
  const ours = results.find((other) => other.one === one && other.clients === clients && isOurs(other))
  const ratesOf = (of: Result | undefined) => of?.loads.map((load) => load?.perSecond) ?? []
  return {
    case: one.name,
    clients,
    side,
    ...rateColumns(ratesOf(result), ratesOf(isOurs(result) ? undefined : ours)),
    'p50, ms': inMs(result, ({ p50Ms }) => p50Ms),
    'p95, ms': inMs(result, ({ p95Ms }) => p95Ms),
    'p99, ms': inMs(result, ({ p99Ms }) => p99Ms),
    features: Math.round(features),
  }
}

/** Returns a row with p95 beside that of the smallest table of the same kind. */
function growthRowOf(result: Result, results: readonly Result[]) {
  const { side, one } = result
  const { isManaged, rows } = one.growth!
  const smallest = results.find((other) => other.side === side && other.one.growth?.isManaged === isManaged)!
  const p95Of = (of: Result) => medianOf(of, ({ p95Ms }) => p95Ms)
  const [own, least] = [p95Of(result), p95Of(smallest)]
  const { case: _, ...row } = rowOf(result, results)
  return {
    table: isManaged ? 'imported by Tessera' : 'plain',
    rows,
    ...row,
    'p95 : smallest table': own && least ? Number((own / least).toFixed(2)) : '–',
  }
}
