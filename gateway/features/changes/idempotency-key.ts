// Owns that a change is made once: what came of it is kept beside the feature, under the key of whoever asked.
//
// The outcome lies in the shard of the feature and is written in the transaction of the change: either both have
// happened or neither, and no other node has to be asked. Where a repeated change lies, its address says, and of a
// new feature its place. A new feature somewhere else under a key that was used already would not be found so; for
// that alone a client's key is claimed first, in the shard that the key itself says.

import { hash, randomUUID } from 'node:crypto'
import { type SQL, sql } from 'drizzle-orm'
import type { Database, Query, Row, Statement } from '../../database/database.ts'
import { RefusedChange } from '../../database/outcome.ts'
import { changeKeyTable } from '../../database/tables.ts'
import { fillTemplate, statementOf, templateOf } from '../../database/template.ts'
import { type ErrorCode, GatewayError, gatewayError } from '../../errors.ts'
import { type Collection, cellsOfStatement } from '../collections/collection.ts'
import type { StoredFeature } from '../query/stored-feature.ts'

/** What came of a change. */
export type Outcome =
  | { readonly kind: 'created' | 'changed'; readonly item: StoredFeature }
  /** Of what is no more there is nothing to tell. */
  | { readonly kind: 'removed'; readonly item?: undefined }

/** The same, and whether it was so already when the change was asked for again. */
export type Done = Outcome & { readonly isRepeated: boolean }

/** The change that is meant, whoever repeats it. */
export type ChangeKey = {
  /** As clients write it. */
  readonly text: string
  /** Of whoever asked, what was asked for, and the key. */
  readonly hash: Buffer
  /** Of everything else that decides on what becomes of it: two changes under one key are the same by this. */
  readonly request: Buffer
  readonly giver: KeyGiver
}

/**
 * Who has chosen a key: the client; what stands before the gateway, which repeats at another what it has sent to one that
 * died; or the gateway itself, so that nobody else can know of it yet.
 */
export type KeyGiver = 'client' | 'balancer' | 'gateway'
/** Where they write it. */
export const KEY_HEADERS = { client: 'Idempotency-Key', balancer: 'Tessera-Change-Key' } as const
export type GivenKey = { readonly text: string; readonly giver: keyof typeof KEY_HEADERS }

/** What a change is, apart from its key. */
export type ChangeIdentity = {
  /** Whose the key is: others may choose the same. */
  readonly caller: string
  /** What is to be changed, and how. */
  readonly target: string
  /** Body and conditions. */
  readonly content: string
}

export interface ChangeKeys {
  /**
   * The key of a change; undefined where it needs none.
   * @throws GatewayError header-invalid where the database keeps none
   */
  keyOf(given: GivenKey | undefined, identity: ChangeIdentity): Promise<ChangeKey | undefined>
  /** Stops removing what has expired. */
  stop(): void
}

/** As long as whoever has given a key, or was told of it, may come back with it. */
const LIFETIME_S: Readonly<Record<KeyGiver, number>> = { client: 86_400, balancer: 600, gateway: 600 }
const SWEEP_INTERVAL_MS = 600_000
/** What expires within this is removed by one statement: so little that it holds up nobody. */
const SWEEP_SPAN = '1 minute'
/** How soon a database without the table is looked at again. */
const RECHECK_MS = 10_000

export function makeChangeKeys(database: Database): ChangeKeys {
  let areKept = false
  let checkedAt = Number.NEGATIVE_INFINITY
  async function checkKept(): Promise<boolean> {
    if (areKept || performance.now() - checkedAt < RECHECK_MS) return areKept
    const [[isUsable]] = (await database.write(IS_USABLE, { isRepeatable: true })) as [Row]
    checkedAt = performance.now()
    areKept = isUsable === 't'
    return areKept
  }
  // Several gateways at once find the less.
  const sweeping = setInterval(
    async () => {
      try {
        if (database.canWrite && (await checkKept())) await removeExpired(database)
      } catch {
        // The next time will do.
      }
    },
    SWEEP_INTERVAL_MS * (1 + Math.random()),
  ).unref()

  return {
    async keyOf(given, { caller, target, content }) {
      // Where nobody can take over from the primary, nobody could tell either.
      if (given === undefined && !database.isReplicated) return undefined
      if (!(await checkKept())) {
        if (given === undefined) return undefined
        throw gatewayError(
          'header-invalid',
          `This database keeps no idempotency keys; \`tessera migrate\` would make their table. Until then no ${KEY_HEADERS[given.giver]} can be sent${given.giver === 'balancer' ? ', as what stands before this gateway does' : ''}.`,
          { header: KEY_HEADERS[given.giver] },
        )
      }
      const { text, giver } = given ?? { text: randomUUID(), giver: 'gateway' }
      return {
        text,
        hash: hash('sha256', JSON.stringify([caller, target, text]), 'buffer'),
        request: hash('sha256', content, 'buffer'),
        giver,
      }
    },
    stop: () => clearInterval(sweeping),
  }
}

/**
 * Makes a change once, however often it is asked for under its key, and whatever dies meanwhile.
 * @param cell where it is kept, beside the feature; undefined for a collection without cells
 * @param make the change itself, in a transaction; it throws where there is nothing to change
 * @throws GatewayError; as `make` where it has not happened before either
 */
export async function changeOnce(
  database: Database,
  key: ChangeKey,
  collection: Collection,
  cell: number | undefined,
  make: (query: Query) => Promise<Outcome>,
): Promise<Done> {
  const place: Place = { cell: cell ?? cellOfKey(key), cells: cellsOfStatement(collection, cell) }
  let mayBeDone = key.giver !== 'gateway'
  try {
    const outcome = await database.transact(
      async (query, isRepeated) => {
        // One that its client has not repeated, and is still under way, is waited for, where it keeps its outcome.
        if (isRepeated) mayBeDone = true
        else if (key.giver === 'client') await takeUp(query, key)
        return make(query)
      },
      { cells: place.cells, isRepeatable: true, last: (outcome) => compileKeep(key, place, outcome) },
    )
    return { ...outcome, isRepeated: false }
  } catch (error) {
    if (error instanceof GatewayError && error.code === 'change-outcome-unknown')
      throw unknownUnder(key, error)
    if (!isVerdict(error) || !mayBeDone) throw error
    // It may be no verdict on this change, but what is left to do after it.
    const [kept] = await database.write(compileLook(key, place), { isRepeatable: true })
    if (!kept) throw error
    return { ...readOutcome(kept, key), isRepeated: true }
  }
}

/**
 * That this key is for this request alone, wherever another would put a feature. Where the node that would know is
 * away nothing is claimed: that a change is made once does not depend on it, and the feature's own node may be there.
 * @throws GatewayError idempotency-key-reused
 */
export async function claimKey(database: Database, key: ChangeKey, collection: Collection): Promise<void> {
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

/** Nobody else makes the same change meanwhile. @throws GatewayError change-in-progress */
async function takeUp(query: Query, { hash }: ChangeKey): Promise<void> {
  const [[isOurs]] = (await query(compileLock(hash.readBigInt64BE()))) as [Row]
  if (isOurs === 't') return
  throw gatewayError(
    'change-in-progress',
    'The change with this Idempotency-Key is still being made; try again.',
  )
}

/** What is said of the change itself, rather than of the way to the database. */
const VERDICTS: readonly ErrorCode[] = [
  'change-forbidden',
  'feature-changed',
  'feature-conflict',
  'feature-invalid',
  'feature-not-found',
]
const isVerdict = (error: unknown) =>
  error instanceof RefusedChange || (error instanceof GatewayError && VERDICTS.includes(error.code))

const reused = () =>
  gatewayError(
    'idempotency-key-reused',
    'This Idempotency-Key was used with another body or condition; choose a new one.',
    {
      header: 'Idempotency-Key',
    },
  )

const unknownUnder = ({ text }: ChangeKey, error: GatewayError) =>
  gatewayError(
    'change-outcome-unknown',
    `The connection to the database was lost while the change was under way: it may have happened or not. Repeat it with Idempotency-Key: "${text}", and it happens once.`,
    { idempotencyKey: text },
    error,
  )

function readOutcome([request, kind, id, text, version]: Row, key: ChangeKey): Outcome {
  if (request !== key.request.toString('hex')) throw reused()
  if (kind === 'removed') return { kind }
  return { kind: kind as 'created' | 'changed', item: { id: id!, text: text!, version: version! } }
}

/** Where a key is kept. */
type Place = { readonly cell: number; readonly cells: readonly number[] | undefined }

/** Any number will do, spread evenly. */
const cellOfKey = ({ hash }: ChangeKey) => hash.readInt32BE(8)

const { cell, hash: keyHash, request, outcome, featureId, feature, version, expiresAt } = changeKeyTable
const placeholder = (name: string) => sql`${sql.placeholder(name)}`
const expiry = sql`now() + make_interval(secs => ${placeholder('lifetime')}::double precision)`

function compileKeep(key: ChangeKey, place: Place, done: Outcome): Statement {
  const template = templateOf(
    'keep a key',
    () => sql`insert into ${changeKeyTable} (${columns(cell, keyHash, request, outcome, featureId, feature, version, expiresAt)})
      values (${placeholder('cell')}, ${placeholder('hash')}, ${placeholder('request')}, ${placeholder('outcome')},
        ${placeholder('id')}, ${placeholder('text')}, ${placeholder('version')}, ${expiry})`,
  )
  const { id, text, version: itsVersion } = done.item ?? NOTHING
  const values = {
    cell: place.cell,
    hash: key.hash,
    request: key.request,
    outcome: done.kind,
    id,
    text,
    version: itsVersion,
    lifetime: LIFETIME_S[key.giver],
  }
  return fillTemplate(template, values, place.cells)
}
const NOTHING = { id: null, text: null, version: null }

/**
 * One row with what was kept, or none. By a change: what is answered again is replicated first, which what is merely
 * read need not be.
 */
function compileLook({ hash }: ChangeKey, place: Place): Statement {
  const template = templateOf(
    'look for a key',
    () => sql`update ${changeKeyTable} set ${sql.identifier(expiresAt.name)} = ${expiresAt}
      where ${cell} = ${placeholder('cell')} and ${keyHash} = ${placeholder('hash')}
      returning encode(${request}, 'hex'), ${outcome}, ${featureId}, ${feature}, ${version}`,
  )
  return fillTemplate(template, { cell: place.cell, hash }, place.cells)
}

/** One row with whom the key is for. */
function compileClaimKey(key: ChangeKey, collection: Collection): Statement {
  const template = templateOf(
    'claim a key',
    () => sql`insert into ${changeKeyTable} as claimed (${columns(cell, keyHash, request, outcome, expiresAt)})
      values (${placeholder('cell')}, ${placeholder('hash')}, ${placeholder('request')}, 'claimed', ${expiry})
      on conflict (${columns(cell, keyHash)}) do update set ${sql.identifier(request.name)} = claimed.request
      returning encode(${sql.identifier(request.name)}, 'hex')`,
  )
  const claimed = cellOfKey(key)
  const values = {
    cell: claimed,
    // Another name than its outcome has: both may come to lie in one cell.
    hash: hashOfClaim(key.hash),
    request: key.request,
    lifetime: LIFETIME_S[key.giver],
  }
  return fillTemplate(template, values, cellsOfStatement(collection, claimed))
}
const hashOfClaim = (key: Buffer) => hash('sha256', key, 'buffer')

/** Until the end of the transaction. Not what makes sure that a change is made once, but the quicker answer. */
function compileLock(number: bigint): Statement {
  const template = templateOf(
    'lock a key',
    () => sql`select pg_try_advisory_xact_lock(${placeholder('number')}::bigint)`,
  )
  return fillTemplate(template, { number: String(number) })
}

/** Removes the keys that have expired, little by little. @throws GatewayError */
export async function removeExpired(database: Database): Promise<void> {
  for (;;) {
    const [row] = await database.write(OLDEST)
    const oldest = row?.[0]
    if (!oldest) return
    await database.write(
      statementOf(
        sql`delete from ${changeKeyTable} where ${expiresAt} < least(now(), ${oldest}::timestamptz + ${SWEEP_SPAN}::interval)`,
      ),
    )
  }
}
const OLDEST = statementOf(
  sql`select min(${expiresAt})::text from ${changeKeyTable} where ${expiresAt} < now()`,
)

const IS_USABLE: Statement = {
  text: `select exists (
    select from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'tessera' and c.relname = 'change_key' and has_schema_privilege(n.oid, 'usage')
      and has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert')
      and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete'))`,
  values: [],
}

/** Their bare names, as INSERT takes them. */
const columns = (...all: readonly { readonly name: string }[]): SQL =>
  sql.join(
    all.map(({ name }) => sql.identifier(name)),
    sql.raw(', '),
  )
