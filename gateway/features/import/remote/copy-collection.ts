// Owns the copy of a collection of another server: its pages as a source of the import, which goes on after an
// interruption and stores all features exactly once.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Session } from '../../../database/session.ts'
import type { Emit } from '../../../events.ts'
import { type ImportOptions, importFeatures } from '../import.ts'
import { ImportError } from '../import-error.ts'
import type { ImportSource } from '../import-source.ts'
import { parseFeature } from '../sources/geojson-feature.ts'
import { readDocuments } from '../sources/json-documents.ts'
import type { SourceFeature } from '../sources/source.ts'
import { checkCollectionName, checkTarget } from '../target-table.ts'
import { type Journal, openJournal, type Progress, removeJournal } from './journal.ts'
import { hashOf, type RemotePage, readPage } from './page.ts'
import { describeRemote, parseCollectionAddress, type RemoteCollection } from './remote-collection.ts'
import { makeRequests, RefusedRequest, type Requests, shownAddress } from './requests.ts'

export type CopyOptions = {
  /** How the features are stored. */
  readonly into: ImportOptions
  /** Address of the collection, or of some of its features. */
  readonly from: string
  /** Folder that keeps what was read until everything is stored. */
  readonly folder: string
  /** True to forget what an interrupted copy has read. */
  readonly restart: boolean
  /** Headers for the origin of `from`, for example with credentials. */
  readonly headers: Readonly<Record<string, string>>
  /** True to leave out the ids of the source. */
  readonly newIds: boolean
  /** True if a server without links to further pages is known to keep an order by itself. */
  readonly keepsOrder: boolean
  /** See RequestOptions. */
  readonly pausesMs?: readonly number[] | undefined
}

/** Sizes of pages that servers are asked for, until one takes it; most take too large ones for their largest. */
const LIMITS = [10_000, 1_000, 100]
/**
 * Features at the end of what was read among which one that comes again is found. If something is inserted while pages
 * are read by offset, the last features of a page come again on the next one.
 */
const MAX_REMEMBERED = 10_000

/**
 * Copies a collection, or goes on with a copy that was interrupted.
 * @param signal ends it; what was read is kept
 * @throws ImportError
 */
export async function copyCollection(
  session: Session,
  options: CopyOptions,
  emit: Emit,
  signal: AbortSignal,
) {
  const { from, folder, headers, pausesMs, into } = options
  const { collection, existing } = into
  const remote = parseCollectionAddress(from)
  checkCollectionName(collection)
  const note = (text: string) => emit({ type: 'import-noted', collection, note: text })
  await lockCopy(session, collection)
  if (options.restart) await removeJournal(folder)
  const journal = await openSameJournal(folder, from)
  try {
    if (await wasStored(session, journal, collection)) {
      note(`Everything was stored before the interruption: ${journal.progress!.features} features.`)
      return await journal.remove()
    }
    await checkTarget(session, collection, existing)
    const requests = makeRequests({ origin: remote.items.origin, headers, signal, note, pausesMs })
    if (journal.progress)
      note(`Going on after the ${journal.progress.features} features that were read before.`)
    else await readFirstPage(requests, journal, remote, from, note)
    // Texts of a collection that exists are its own.
    const texts = existing === 'append' ? {} : journal.progress!.description
    const given = Object.entries(into).filter(([, value]) => value !== undefined)
    await importFeatures(
      session,
      sourceOf(requests, journal, options, signal),
      {
        ...texts,
        ...(Object.fromEntries(given) as ImportOptions),
        async beforeCommit() {
          await journal.keep({ ...journal.progress!, storing: { ...(await identify(session)), collection } })
        },
      },
      emit,
    )
    await journal.remove()
  } catch (error) {
    await journal.close().catch(() => {})
    // With an order, the address is another one.
    if (journal.progress && !(error instanceof UnorderedPages))
      note(`What was read is kept in ${folder}; the same command goes on from there.`)
    else await removeJournal(folder)
    throw error
  }
}

/** @throws ImportError if the journal in the folder is that of another source */
async function openSameJournal(folder: string, from: string): Promise<Journal> {
  const journal = await openJournal(folder)
  const { progress } = journal
  if (!progress || progress.from === from) return journal
  await journal.close()
  throw new ImportError(
    `${folder} has what was read from ${shownAddress(progress.from)}. Name that address to go on, another folder with --folder, or start over with --restart.`,
  )
}

/** Key of the first part of the advisory lock; the number has no meaning, and no other lock has it. */
const LOCK = 1_735_289_203
/** How long the session of a copy that was killed may take to end: it notices within a second. */
const LOCK_ATTEMPTS = 12
const LOCK_PAUSE_MS = 250

/** Lets one copy into a collection run at a time; one that was killed before has then ended in the database, too. */
async function lockCopy(session: Session, collection: string) {
  for (let attempt = 0; attempt < LOCK_ATTEMPTS; attempt++) {
    const [row] = await session.query<{ isLocked: boolean }>(
      'select pg_try_advisory_lock($1::int, hashtext($2)) as "isLocked"',
      [LOCK, collection],
    )
    if (row!.isLocked) return
    await sleep(LOCK_PAUSE_MS)
  }
  throw new ImportError(`Another copy into ${collection} is running.`)
}

/** Returns the current transaction, and which database it belongs to. */
async function identify(session: Session) {
  const [row] = await session.query<{ system: string; database: string; transaction: string }>(
    `select system_identifier::text as system, current_database() as database,
       pg_current_xact_id()::text as transaction from pg_control_system()`,
  )
  return row!
}

/**
 * Returns true if the features of the journal are in the collection: the process may have ended after the commit.
 * @throws ImportError if it cannot be known
 */
async function wasStored(session: Session, { progress }: Journal, collection: string): Promise<boolean> {
  const storing = progress?.storing
  if (!storing) return false
  const { system, database } = await identify(session)
  if (storing.system !== system || storing.database !== database || storing.collection !== collection)
    return false
  const [row] = await session
    .query<{ status: string | null }>('select pg_xact_status($1::xid8) as status', [storing.transaction])
    .catch((): [{ status: null }] => [{ status: null }])
  if (row?.status === 'committed' || row?.status === 'aborted') return row.status === 'committed'
  throw new ImportError(
    `It cannot be known any more whether the features were stored in ${collection} before the interruption; look, and start over with --restart if they were not.`,
  )
}

/** Reads the description and the first page, as large as the server has them. */
async function readFirstPage(
  requests: Requests,
  journal: Journal,
  remote: RemoteCollection,
  from: string,
  note: (note: string) => void,
) {
  const described = await describeRemote(requests, remote, note)
  const limits = remote.items.searchParams.has('limit') ? [] : LIMITS
  const addresses = [...limits.map((limit) => withParameter(remote.items, 'limit', limit)), remote.items.href]
  for (const [index, first] of addresses.entries()) {
    const page = await readPage(requests, journal, first).catch((error) => {
      const isLimit = error instanceof RefusedRequest && [400, 413, 422].includes(error.status)
      if (isLimit && index < addresses.length - 1) return undefined
      throw error
    })
    if (!page) continue
    const start = { from, ...described, first, next: first, hasLinks: false, features: 0 }
    return await journal.commit(advance({ ...start, firstFeature: null, matched: null, storing: null }, page))
  }
}

function withParameter(address: URL, name: string, value: number): string {
  const url = new URL(address)
  url.searchParams.set(name, String(value))
  return url.href
}

/** Returns the progress after one more page. */
function advance(progress: Progress, page: RemotePage): Progress {
  const features = progress.features + page.features
  const matched = page.matched ?? progress.matched
  const hasLinks = progress.hasLinks || page.next !== undefined
  const isMore = page.features > 0 && !hasLinks && !(matched !== null && features >= matched)
  return {
    ...progress,
    features,
    matched,
    hasLinks,
    firstFeature: progress.firstFeature ?? page.firstFeature ?? null,
    // Some servers have no links to further pages, and do not say how many features there are.
    next: page.next ?? (isMore ? offsetAddress(progress.first, features) : null),
  }
}

function offsetAddress(first: string, features: number): string {
  const url = new URL(first)
  return withParameter(url, 'offset', Number(url.searchParams.get('offset') ?? 0) + features)
}

/** Returns the pages of the journal, and then those that it lacks, as a source of the import. */
function sourceOf(
  requests: Requests,
  journal: Journal,
  { from, newIds, keepsOrder }: Pick<CopyOptions, 'from' | 'newIds' | 'keepsOrder'>,
  signal: AbortSignal,
): ImportSource {
  return {
    name: shownAddress(from),
    bytesRead: () => journal.bytes,
    async read(note) {
      const { columnTypes, declaredTypes, matched } = journal.progress!
      return {
        hasTypes: true,
        unit: 'Feature',
        columnTypes: new Map(Object.entries(columnTypes)),
        declaredTypes: new Map(Object.entries(declaredTypes)),
        featureCount: matched ?? undefined,
        features: readFeatures(makePages(requests, journal, keepsOrder), journal, newIds, note, signal),
      }
    },
  }
}

async function* readFeatures(
  pages: Pages,
  journal: Journal,
  newIds: boolean,
  note: (note: string) => void,
  signal: AbortSignal,
): AsyncGenerator<SourceFeature[]> {
  const recent = new Set<string>()
  let line = 0
  let repeated = 0
  for (let start = 0; start < journal.bytes; start = await pages.readOn()) {
    for await (const parts of readDocuments(journal.read(start))) {
      signal.throwIfAborted()
      const features: SourceFeature[] = []
      for (const part of parts) {
        if (part.role !== 'element') continue
        const feature = parseFeature({ ...part, line: ++line })
        if (isRepeated(feature, part.bytes, recent)) repeated++
        else features.push(newIds ? { ...feature, id: undefined } : feature)
      }
      yield features
    }
  }
  const { matched } = journal.progress!
  if (repeated > 0) note(`${repeated} features came a second time, as they were, and are stored once.`)
  if (matched !== null && matched !== line - repeated)
    note(
      `The server counts ${matched} features, but its pages had ${line - repeated}: it has changed meanwhile, or does not count exactly.`,
    )
}

/** Returns true if the same feature was among those before it; one without an id may have a twin. */
function isRepeated({ id }: SourceFeature, bytes: Buffer, recent: Set<string>): boolean {
  if (id === undefined || id === null) return false
  const hashed = hashOf(bytes)
  if (recent.has(hashed)) return true
  recent.add(hashed)
  if (recent.size > MAX_REMEMBERED) recent.delete(recent.values().next().value!)
  return false
}

interface Pages {
  /** Reads the next page. @returns where it starts in the journal, or where that ends if there is none */
  readOn(): Promise<number>
}

function makePages(requests: Requests, journal: Journal, keepsOrder: boolean): Pages {
  let count = 0
  /** An address that must not come again: in a circle, one of those at powers of two would (Brent). */
  let mark: string | undefined

  async function readOn(): Promise<number> {
    const start = journal.bytes
    const progress = journal.progress!
    const { next, hasLinks } = progress
    if (next === null) return start
    count++
    if (next === mark)
      throw new ImportError(`The pages of the server go in a circle: ${shownAddress(next)} comes again.`)
    if ((count & (count - 1)) === 0) mark = next
    const page = await readPage(requests, journal, next).catch((error) => {
      if (!(error instanceof RefusedRequest)) throw error
      if (!hasLinks) return undefined
      throw new ImportError(
        `${error.message} If the server has forgotten where the copy stopped, start over with --restart.`,
        { cause: error },
      )
    })
    // A server without links that does not know the offset, either, has had one page.
    if (!page || (!hasLinks && page.features > 0 && page.firstFeature === progress.firstFeature)) {
      checkIsComplete(progress)
      await journal.keep({ ...progress, next: null })
      return start
    }
    if (!hasLinks && page.features > 0 && !isOrdered(progress.first, keepsOrder))
      throw new UnorderedPages(progress.first)
    await journal.commit(advance(progress, page))
    return start
  }
  return { readOn }
}

/** Pages by offset of a server without an order, on which features come twice and others not at all. */
class UnorderedPages extends ImportError {
  constructor(first: string) {
    super(
      `${shownAddress(first)} has no link to the next page, so that pages must be read by offset, and the address names no order: some features would come twice, and others not at all. Name one by a property that is unique, for example …/items?sortby=id, or use --keeps-order if the server has an order of its own.`,
    )
  }
}

const isOrdered = (address: string, keepsOrder: boolean) =>
  keepsOrder || new URL(address).searchParams.has('sortby')

/** @throws ImportError if the server has more features than it gives */
function checkIsComplete({ features, matched, first }: Progress) {
  if (matched !== null && features < matched)
    throw new ImportError(
      `${shownAddress(first)} gives ${features} of ${matched} features: it has no link to the next page, and takes no offset.`,
    )
}
