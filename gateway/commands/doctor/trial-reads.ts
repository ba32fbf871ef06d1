// Owns reading a little of each collection as clients do, to find those that are broken or slow.

import type { Database } from '../../database/contract.ts'
import { errors, GatewayError } from '../../errors.ts'
import type { Emit } from '../../events.ts'
import type { Collection } from '../../features/collections/collection.ts'
import { geojson, parseFeatures } from '../../features/formats/geojson.ts'
import { type ItemParameters, planItems } from '../../features/query/item-query.ts'
import { MAX_PAGE_BYTES, type Page } from '../../features/query/page.ts'
import { readPageWithin } from '../../features/query/read-page.ts'
import { makeUnshown } from '../../features/query/unshown.ts'
import { ending, type Finding, type Unexamined } from './finding.ts'

/** A page that takes longer makes people wait. */
const SLOW_MS = 1_000
/** Time limit of one page, of which a gateway would give up at its statement timeout. */
const PAGE_TIMEOUT_MS = 5_000
/** Time limit of all pages together; after it, the other collections stay unexamined. */
const TOTAL_TIMEOUT_MS = 120_000
const LIMIT = 10
/** Half the width of a box around a feature, in degrees: what a map shows when somebody looks at it closely. */
const HALF_BOX = 0.01
/** Collections that are read at once. */
const CONCURRENCY = 2

/** Reads a page of each collection, and a box around one of its features. */
export async function tryCollections(
  database: Database,
  collections: readonly Collection[],
  emit: Emit,
): Promise<{ readonly findings: readonly Finding[]; readonly unexamined: readonly Unexamined[] }> {
  const endsAt = performance.now() + TOTAL_TIMEOUT_MS
  const unshown = makeUnshown(emit)
  const findings: Finding[] = []
  const unexamined: Unexamined[] = []
  const late: string[] = []
  const left = collections.values()

  const readPage = (collection: Collection, parameters: ItemParameters): Promise<Page> => {
    const query = planItems({ limit: LIMIT, ...parameters }, collection)
    const encoder = geojson.inSystem(query.system)
    const deadline = AbortSignal.timeout(PAGE_TIMEOUT_MS)
    return readPageWithin({ database, encoder, unshown, deadline }, query, MAX_PAGE_BYTES)
  }

  /** @returns the page; undefined if there is something to report */
  async function tryPage(collection: Collection, what: string, parameters: ItemParameters) {
    const read = async () => {
      const startedAt = performance.now()
      const page = await readPage(collection, parameters)
      return { page, milliseconds: performance.now() - startedAt }
    }
    try {
      const first = await read()
      if (first.milliseconds < SLOW_MS) return first.page
      // The first one may have waited for a connection, a plan, or a disk.
      const { page, milliseconds } = await read()
      if (milliseconds < SLOW_MS) return page
      findings.push(slow(collection, what, `took ${(milliseconds / 1_000).toFixed(1)} s`))
    } catch (error) {
      if (isTimeout(error))
        findings.push(slow(collection, what, `was not there after ${PAGE_TIMEOUT_MS / 1_000} s`))
      // What passes says nothing about the collection.
      else if (error instanceof GatewayError && errors[error.code].isRetryable)
        unexamined.push({ what: `the ${what} of ${collection.id}`, why: error.message })
      else findings.push(broken(collection, what, error))
    }
    return undefined
  }

  async function work() {
    for (const collection of left) {
      if (performance.now() > endsAt) late.push(collection.id)
      else {
        const page = await tryPage(collection, 'first page', {})
        const place = page && placeIn(page)
        if (place) await tryPage(collection, 'box around a feature', { bbox: boxAround(place) })
      }
    }
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, work))
  if (late.length > 0)
    unexamined.push({
      what: `pages of ${late.length} collections`,
      why: `${TOTAL_TIMEOUT_MS / 1_000} s were over`,
    })
  return { findings, unexamined }
}

const isTimeout = (error: unknown) =>
  (error as Error).name === 'TimeoutError' ||
  (error instanceof GatewayError && error.code === 'query-too-slow')

function slow({ id }: Collection, what: string, how: string): Finding {
  return {
    severity: 'warning',
    check: 'slow-collection',
    subject: id,
    finding: `Its ${what} ${how}.`,
    remedy: `Look at the plan: /collections/${encodeURIComponent(id)}/items?limit=${LIMIT}&explain=1. Add indexes to the tables that it reads, or make a view a materialized one.`,
  }
}

function broken({ id }: Collection, what: string, error: unknown): Finding {
  const { message, cause } = error as Error
  return {
    severity: 'fault',
    check: 'broken-collection',
    subject: id,
    finding: `Its ${what} cannot be read: ${ending(cause instanceof Error ? cause.message : message)}`,
    remedy: 'Repair the view, the functions that it calls, or the grants that its owner needs.',
  }
}

type Place = readonly [number, number]

/** Returns a place of the first feature that has one. */
function placeIn({ features }: Page): Place | undefined {
  for (const feature of parseFeatures(features)) {
    const { geometry } = feature as { geometry: object | null }
    const place = geometry && firstPlace(Object.values(geometry))
    if (place) return place
  }
  return undefined
}

function firstPlace(value: unknown): Place | undefined {
  if (!Array.isArray(value)) return undefined
  if (typeof value[0] === 'number' && typeof value[1] === 'number') return [value[0], value[1]]
  for (const part of value) {
    const found = firstPlace(part)
    if (found) return found
  }
  return undefined
}

const boxAround = ([longitude, latitude]: Place) => [
  Math.max(-180, longitude - HALF_BOX),
  Math.max(-90, latitude - HALF_BOX),
  Math.min(180, longitude + HALF_BOX),
  Math.min(90, latitude + HALF_BOX),
]
