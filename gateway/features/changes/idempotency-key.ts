// Owns the guarantee that a change happens once: its outcome is stored next to the feature, under the caller's key.
//
// The outcome is stored in the shard of the feature, in the transaction of the change: either both happen or neither
// does, and no other node is involved. The URL of a repeated change leads to its outcome; for a new feature, its
// geometry does. A new feature elsewhere, under a key that was already used, would not be found in this way. For this
// case alone, a client's key is claimed first, in the shard that follows from the key itself.

import { hash, randomUUID } from 'node:crypto'
import type { Database, Query } from '../../database/contract.ts'
import { RefusedChange } from '../../database/outcome.ts'
import { sql } from '../../database/sql.ts'
import type { Row, Statement } from '../../database/statement.ts'
import { hasRights } from '../../database/table-rights.ts'
import { fillTemplate, statementOf, templateOf } from '../../database/template.ts'
import { type ErrorCode, GatewayError, gatewayError } from '../../errors.ts'
import { type Collection, cellsOfStatement } from '../collections/collection.ts'
import type { StoredFeature } from '../query/stored-feature.ts'

/** A feature after a change; without its text if that was too long to be stored with the outcome. */
export type ChangedFeature = Omit<StoredFeature, 'text'> & { readonly text: string | undefined }

/** ChangeResult of a change. */
export type ChangeResult =
  | { readonly kind: 'created' | 'changed'; readonly item: ChangedFeature }
  /** A removed feature has nothing to return. */
  | { readonly kind: 'removed'; readonly item?: undefined }
  /** A change of many features, of which a report in JSON is left; `kept` is stored in its place if it is too long. */
  | { readonly kind: 'many'; readonly report: string; readonly kept?: string; readonly item?: undefined }

/** ChangeResult of a change, and whether the change had already happened when this request repeated it. */
export type Done = ChangeResult & { readonly isRepeated: boolean }

/** Identity of a change, which is the same in every repetition. */
export type IdempotencyKey = {
  /** The key as clients write it. */
  readonly text: string
  /** Hash of the caller, the target of the change, and the key. */
  readonly hash: Buffer
  /** Hash of everything else that decides the outcome; if it differs, the key was used for another change. */
  readonly request: Buffer
  readonly giver: KeyGiver
}

/**
 * Origin of a key: the client; a balancer, which sends a change to another gateway if the first one has died; or this
 * gateway, so that no other program can know the key yet.
 */
export type KeyGiver = 'client' | 'balancer' | 'gateway'
/** Headers that carry keys. */
export const KEY_HEADERS = { client: 'Idempotency-Key', balancer: 'Tessera-Change-Key' } as const
export type GivenKey = { readonly text: string; readonly giver: keyof typeof KEY_HEADERS }

/** Facts that identify a change, apart from its key. */
export type ChangeIdentity = {
  /** Owner of the key, because different callers may choose the same key. */
  readonly caller: string
  /** Method and resource of the change. */
  readonly target: string
  /** Returns the body and conditions; it is called when the body has been read. */
  readonly content: () => string
}

export interface IdempotencyKeys {
  /**
   * Returns the key of a change; undefined if it needs none.
   * @throws GatewayError header-invalid if a key was sent and the database stores none
   */
  keyOf(given: GivenKey | undefined, identity: ChangeIdentity): Promise<IdempotencyKey | undefined>
  /** Stops the removal of expired keys. */
  stop(): void
}

/** Seconds for which an outcome is stored: as long as its client or balancer may repeat the change. */
const LIFETIME_S: Readonly<Record<KeyGiver, number>> = { client: 86_400, balancer: 600, gateway: 600 }
/**
 * Longest feature that is stored with an outcome, in bytes. Outcomes are kept for a day, and 30 patches of a large feature
 * would store it 30 times. Of a longer one the id and the version are stored.
 */
const MAX_KEPT_BYTES = 65_536
const SWEEP_INTERVAL_MS = 600_000
/** One statement removes the keys that expire within this time: so few that it delays no other statement. */
const SWEEP_SPAN = '1 minute'
/** Time after which a database without the table is checked again. */
const RECHECK_MS = 10_000

export function makeIdempotencyKeys(database: Database): IdempotencyKeys {
  let areKept = false
  let checkedAt = Number.NEGATIVE_INFINITY
  async function checkKept(): Promise<boolean> {
    if (areKept || performance.now() - checkedAt < RECHECK_MS) return areKept
    const [[isUsable]] = (await database.write(IS_USABLE, { isRepeatable: true })) as [Row]
    checkedAt = performance.now()
    areKept = isUsable === 't'
    return areKept
  }
  // If several gateways sweep at the same time, each simply finds fewer expired keys.
  const sweeping = setInterval(
    async () => {
      try {
        if (database.canWrite && (await checkKept())) await removeExpired(database)
      } catch {
        // The next sweep removes what this one has missed.
      }
    },
    SWEEP_INTERVAL_MS * (1 + Math.random()),
  ).unref()

  return {
    async keyOf(given, { caller, target, content }) {
      // Without replication no other server can take over from the primary, and none could report the outcome.
      if (given === undefined && !database.isReplicated) return undefined
      if (!(await checkKept())) {
        if (given === undefined) return undefined
        throw gatewayError(
          'header-invalid',
          `This database stores no idempotency keys for this role; \`tessera migrate\` creates their table and grants its use. Until then no ${KEY_HEADERS[given.giver]} can be sent${given.giver === 'balancer' ? ', as the balancer in front of this gateway does' : ''}.`,
          { header: KEY_HEADERS[given.giver] },
        )
      }
      const { text, giver } = given ?? { text: randomUUID(), giver: 'gateway' }
      return {
        text,
        hash: hash('sha256', JSON.stringify([caller, target, text]), 'buffer'),
        get request() {
          return hash('sha256', content(), 'buffer')
        },
        giver,
      }
    },
    stop: () => clearInterval(sweeping),
  }
}

/**
 * Makes a change once, however often it is requested under its key, and whatever fails meanwhile.
 * @param cell the cell next to whose features the outcome is stored; undefined for a collection without cells
 * @param make makes the change in a transaction; throws if there is nothing to change
 * @param entriesOf returns what the audit has of it, which is stored with its outcome
 * @throws GatewayError; as `make` if the change has not happened before either
 */
export async function changeOnce(
  database: Database,
  key: IdempotencyKey,
  collection: Collection,
  cell: number | undefined,
  make: (query: Query) => Promise<ChangeResult>,
  entriesOf: (done: ChangeResult) => readonly Statement[],
): Promise<Done> {
  const location: KeyLocation = { cell: cell ?? cellOfKey(key), cells: cellsOfStatement(collection, cell) }
  let mayBeDone = key.giver !== 'gateway'
  try {
    const outcome = await database.transact(
      async (query, isRepeated) => {
        // If the gateway itself repeats the change, its first attempt may still hold the lock. Then no lock is
        // taken: inserting the outcome waits for that attempt instead.
        if (isRepeated) mayBeDone = true
        else if (key.giver === 'client') await takeUp(query, key)
        return make(query)
      },
      {
        cells: location.cells,
        isRepeatable: true,
        last: (outcome) => [...entriesOf(outcome), compileKeep(key, location, outcome)],
      },
    )
    return { ...outcome, isRepeated: false }
  } catch (error) {
    if (error instanceof GatewayError && error.code === 'change-outcome-unknown')
      throw unknownUnder(key, error)
    if (!isVerdict(error) || !mayBeDone) throw error
    // The error may only mean that the change has already happened; its stored outcome shows that.
    const [kept] = await database.write(compileLook(key, location), { isRepeatable: true })
    if (!kept) throw error
    return { ...readResult(kept, key), isRepeated: true }
  }
}

/** Work of a change of many features. */
export type ManyWork = {
  /** Set if the body is read once, as a stream: it cannot be sent again. */
  readonly stream?: {
    /** Reads what is left of the body, for its hash. */
    readonly drain: () => Promise<void>
    /** Reads the start of the body, before a connection is taken. */
    readonly begin: () => Promise<void>
  }
  /** Makes the change in a transaction. @throws GatewayError if it is called again when it cannot start again */
  readonly make: (query: Query) => Promise<ChangeResult>
}

/**
 * Makes a change of many features once. Its key is looked for first, because all of the work would be in vain if the
 * change has happened already. The outcome is stored in a cell that follows from the key.
 * @param key undefined if the change will not be repeated
 * @param collection the only one that it concerns, where the key may also have been used for a single feature
 * @throws GatewayError; as `make`
 */
export async function changeManyOnce(
  database: Database,
  key: IdempotencyKey | undefined,
  collection: Collection | undefined,
  { stream, make }: ManyWork,
): Promise<Done> {
  if (!key) {
    await stream?.begin()
    return { ...(await database.transact(make)), isRepeated: false }
  }
  const location: KeyLocation = { cell: cellOfKey(key), cells: undefined }
  const look = async (): Promise<Done | undefined> => {
    const [kept] = await database.write(compileLook(key, location), { isRepeatable: true })
    if (!kept) return undefined
    await stream?.drain()
    return { ...readResult(kept, key), isRepeated: true }
  }
  const before = key.giver === 'gateway' ? undefined : await look()
  if (before) return before
  await stream?.begin()
  try {
    const result = await database.transact(
      async (query, isRepeated) => {
        // See changeOnce.
        if (key.giver === 'client' && !isRepeated) await takeUp(query, key)
        const made = await make(query)
        // The key may have been used for a single feature, which is stored next to that.
        if (key.giver === 'client' && collection?.level !== undefined)
          await claimKey(database, key, collection)
        return made
      },
      { last: (made) => [compileKeep(key, location, made)], isRepeatable: stream === undefined },
    )
    return { ...result, isRepeated: false }
  } catch (error) {
    const isUnknown = error instanceof GatewayError && error.code === 'change-outcome-unknown'
    if (!isUnknown && !isVerdict(error)) throw error
    // It may have happened: now, or by another request with the key meanwhile.
    const after = await look().catch((failure) => {
      if (failure instanceof GatewayError && failure.code === 'idempotency-key-reused') throw failure
      return undefined
    })
    if (after) return after
    throw isUnknown ? unknownUnder(key, error) : error
  }
}

/**
 * Claims a key for one request, wherever another request with the key would create its feature. If the node of the
 * claim is down, nothing is claimed: that the change happens once does not depend on the claim, and the feature's own
 * node may be up.
 * @throws GatewayError idempotency-key-reused
 */
export async function claimKey(
  database: Database,
  key: IdempotencyKey,
  collection: Collection,
): Promise<void> {
  try {
    const [row] = await database.write(compileClaimKey(key, collection), {
      mayWait: false,
      isRepeatable: true,
    })
    if (row?.[0] !== key.request.toString('hex')) throw reused()
  } catch (error) {
    if (!(error instanceof GatewayError && AWAY.includes(error.code))) throw error
  }
}
const AWAY: readonly ErrorCode[] = ['database-unavailable', 'change-outcome-unknown']

/** Locks a key, so that no other request makes the same change meanwhile. @throws GatewayError change-in-progress */
async function takeUp(query: Query, { hash }: IdempotencyKey): Promise<void> {
  const [[isOurs]] = (await query(compileLock(hash.readBigInt64BE()))) as [Row]
  if (isOurs === 't') return
  throw gatewayError(
    'change-in-progress',
    'The change with this Idempotency-Key is still in progress; try again.',
  )
}

/** Errors that judge the change itself, unlike failures on the way to the database. */
const VERDICTS: readonly ErrorCode[] = [
  'change-forbidden',
  'feature-changed',
  'feature-conflict',
  'feature-invalid',
  'feature-not-found',
  'too-many-affected',
]
export const isVerdict = (error: unknown) =>
  error instanceof RefusedChange || (error instanceof GatewayError && VERDICTS.includes(error.code))

const reused = () =>
  gatewayError(
    'idempotency-key-reused',
    'This Idempotency-Key was used with another body or condition; choose a new one.',
    {
      header: 'Idempotency-Key',
    },
  )

const unknownUnder = ({ text }: IdempotencyKey, error: GatewayError) =>
  gatewayError(
    'change-outcome-unknown',
    `The connection to the database was lost while the change was under way: it may have happened or not. Repeat it with Idempotency-Key: "${text}", and it happens once.`,
    { idempotencyKey: text },
    error,
  )

function readResult([request, kind, id, text, version, modified]: Row, key: IdempotencyKey): ChangeResult {
  if (request !== key.request.toString('hex')) throw reused()
  if (kind === 'removed') return { kind }
  if (kind === 'many') return { kind, report: text! }
  return {
    kind: kind as 'created' | 'changed',
    item: {
      id: id!,
      text: text ?? undefined,
      version: version!,
      modified: modified == null ? undefined : Number(modified),
    },
  }
}

/** Cell in which an outcome is stored, and the cells that statements about it concern. */
type KeyLocation = { readonly cell: number; readonly cells: readonly number[] | undefined }

/** Returns a cell for a key. Any number will do, as long as keys are spread evenly. */
const cellOfKey = ({ hash }: IdempotencyKey) => hash.readInt32BE(8)

const placeholder = (name: string) => sql`${sql.placeholder(name)}`
const expiry = sql`now() + make_interval(secs => ${placeholder('lifetime')}::double precision)`

function compileKeep(key: IdempotencyKey, location: KeyLocation, done: ChangeResult): Statement {
  const template = templateOf(
    'keep a key',
    () => sql`insert into tessera.change_key
        (cell, hash, request, outcome, feature_id, feature, version, modified, expires_at)
      values (${placeholder('cell')}, ${placeholder('hash')}, ${placeholder('request')}, ${placeholder('outcome')},
        ${placeholder('id')}, ${placeholder('text')}, ${placeholder('version')}, ${placeholder('modified')}, ${expiry})`,
  )
  const { id, text, version: itsVersion, modified = null } = done.item ?? NOTHING
  const isKept = text != null && Buffer.byteLength(text) <= MAX_KEPT_BYTES
  const values = {
    cell: location.cell,
    hash: key.hash,
    request: key.request,
    outcome: done.kind,
    id,
    text: done.kind === 'many' ? reportToKeep(done) : isKept ? text : null,
    version: itsVersion,
    modified,
    lifetime: LIFETIME_S[key.giver],
  }
  return fillTemplate(template, values, location.cells)
}
const reportToKeep = ({ report, kept = report }: Extract<ChangeResult, { kind: 'many' }>) =>
  Buffer.byteLength(report) <= MAX_KEPT_BYTES ? report : kept
const NOTHING = { id: null, text: null, version: null, modified: null }

/**
 * Compiles the look-up of a stored outcome: one row, or none. It is an UPDATE, so that an outcome that is returned
 * again has been replicated; one that is only read might not be.
 */
function compileLook({ hash }: IdempotencyKey, location: KeyLocation): Statement {
  const template = templateOf(
    'look for a key',
    () => sql`update tessera.change_key set expires_at = expires_at
      where cell = ${placeholder('cell')} and hash = ${placeholder('hash')}
      returning encode(request, 'hex'), outcome, feature_id, feature, version, modified`,
  )
  return fillTemplate(template, { cell: location.cell, hash }, location.cells)
}

/** Compiles the claim of a key: one row with the hash of the request that owns it. */
function compileClaimKey(key: IdempotencyKey, collection: Collection): Statement {
  const template = templateOf(
    'claim a key',
    () => sql`insert into tessera.change_key as claimed (cell, hash, request, outcome, expires_at)
      values (${placeholder('cell')}, ${placeholder('hash')}, ${placeholder('request')}, 'claimed', ${expiry})
      on conflict (cell, hash) do update set request = claimed.request
      returning encode(request, 'hex')`,
  )
  const claimed = cellOfKey(key)
  const values = {
    cell: claimed,
    // Another hash than that of the outcome, because both may be stored in one cell.
    hash: hashOfClaim(key.hash),
    request: key.request,
    lifetime: LIFETIME_S[key.giver],
  }
  return fillTemplate(template, values, cellsOfStatement(collection, claimed))
}
const hashOfClaim = (key: Buffer) => hash('sha256', key, 'buffer')

/**
 * Compiles a lock until the end of the transaction. It only gives a quicker answer; that a change happens once follows
 * from the primary key of the table.
 */
function compileLock(number: bigint): Statement {
  const template = templateOf(
    'lock a key',
    () => sql`select pg_try_advisory_xact_lock(${placeholder('number')}::bigint)`,
  )
  return fillTemplate(template, { number: String(number) })
}

/** Removes expired keys, few at a time. @throws GatewayError */
export async function removeExpired(database: Database): Promise<void> {
  for (;;) {
    const [row] = await database.write(OLDEST)
    const oldest = row?.[0]
    if (!oldest) return
    await database.write(
      statementOf(
        sql`delete from tessera.change_key where expires_at < least(now(), ${oldest}::timestamptz + ${SWEEP_SPAN}::interval)`,
      ),
    )
  }
}
const OLDEST = statementOf(sql`select min(expires_at)::text from tessera.change_key where expires_at < now()`)

const IS_USABLE = hasRights('change_key', ['select', 'insert', 'update', 'delete'], 'modified')
