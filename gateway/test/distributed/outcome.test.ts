// Tests what failures mean: each is caused for real, or with the message of Citus, and judged in the circumstances in
// which it matters.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import pg from 'pg'
import { splitUrls } from '../../database/addresses.ts'
import { type Circumstances, judge, type Outcome, type Scope } from '../../database/outcome.ts'
import { openSession } from '../../database/session.ts'
import { testDatabase } from '../support/database.ts'
import { openRelay } from '../support/relay.ts'

const { readUrl, writeUrl, ownerUrl, superuserUrl } = testDatabase()
const [url] = splitUrls(writeUrl) as [string]

const owner = await openSession(ownerUrl, 'test')
await owner.query(`
  create table outcomes (id int primary key, n int check (n > 0), parent int references outcomes);
  insert into outcomes values (1, 1), (2, 2);
  grant all on outcomes to tessera_write`)
const [{ isCitus }] = (await owner.query<{ isCitus: boolean }>(
  `select to_regclass('pg_catalog.pg_dist_partition') is not null as "isCitus"`,
)) as [{ isCitus: boolean }]
if (isCitus)
  await owner.query(`create table outcomes_apart (id int, text text);
    select create_distributed_table('outcomes_apart', 'id');
    grant all on outcomes_apart to tessera_write`)
after(async () => {
  await owner.query('drop table if exists outcomes, outcomes_apart')
  await owner.close()
})

async function connect(connectionString = url, options: pg.ClientConfig = {}) {
  const client = new pg.Client({ connectionString, ...options })
  client.on('error', () => {})
  await client.connect()
  return client
}

/** Returns the error that a query fails with. */
async function failureOf(query: string, before?: string, at = url): Promise<unknown> {
  const client = await connect(at)
  try {
    if (before) await client.query(before)
    return await client.query(query).then(
      () => assert.fail(`${query} has not failed`),
      (error) => error,
    )
  } finally {
    await client.end()
  }
}

async function deadlock() {
  const [one, other] = await Promise.all([connect(), connect()])
  for (const client of [one, other]) await client.query("set deadlock_timeout = '100ms'").catch(() => {})
  await one.query('begin; update outcomes set n = 1 where id = 1')
  await other.query('begin; update outcomes set n = 1 where id = 2')
  const results = await Promise.allSettled([
    one.query('update outcomes set n = 1 where id = 2'),
    other.query('update outcomes set n = 1 where id = 1').finally(() => other.query('rollback')),
  ])
  await Promise.all([one.end(), other.end()])
  return results.find((result) => result.status === 'rejected')!.reason as Error
}

async function terminated() {
  const [client, other] = await Promise.all([connect(), connect()])
  const { rows } = await client.query('select pg_backend_pid() as pid')
  const sleeping = client.query('select pg_sleep(10)').catch((error) => error)
  // A role may terminate its own sessions.
  await other.query('select pg_terminate_backend($1::int)', [rows[0].pid]).finally(() => other.end())
  return sleeping
}

async function cut() {
  const relay = await openRelay(url)
  const client = await connect(relay.url)
  const sleeping = client.query('select pg_sleep(10)').catch((error) => error)
  setTimeout(() => relay.cut(), 50)
  const error = await sleeping
  await relay.close()
  return error
}

async function silent() {
  const relay = await openRelay(url)
  const client = await connect(relay.url, { query_timeout: 200 })
  relay.freeze()
  const error = await client.query('select 1').catch((error) => error)
  await relay.close()
  return error
}

/** Returns the error of a change on one worker whose session there ends before the commit. */
async function committedOnNobody() {
  const [, role] = /\/\/([^@]*@)/.exec(superuserUrl)!
  const [client, superuser] = await Promise.all([connect(), connect(url.replace(/\/\/[^@]*@/, `//${role}`))])
  await client.query("begin; insert into outcomes_apart values (1, 'x')")
  await superuser.query(`select run_command_on_workers($$select count(pg_terminate_backend(pid))
    from pg_stat_activity where application_name like 'citus_internal%' and usename = 'tessera_write'$$)`)
  const error = await client.query('commit').catch((error) => error)
  await Promise.all([client.end(), superuser.end()])
  return error
}

const refused = (connectionString: string) =>
  connect(connectionString).then(
    () => assert.fail('nobody should be there'),
    (error) => error,
  )
const nobody = 'postgresql://tessera_read@127.0.0.1:1/tessera'

const read = { purpose: 'read', phase: 'whole', isCitus: false } as const
const write = { ...read, purpose: 'write' } as const
const onCitus = { ...write, isCitus: true }
const within = { ...write, phase: 'within' } as const
const connecting = { ...read, phase: 'connect' } as const

const inItsWords = (message: string) => () =>
  failureOf(`do $$ begin raise '${message}' using errcode = 'XX000'; end $$`)
const ofNode: Verdict[] = [
  [read, 'retryable', 'node', 'database-unavailable'],
  [within, 'never-sent', 'node', 'database-unavailable'],
  [onCitus, 'unknown', 'node', 'change-outcome-unknown'],
]

type Row = [what: string, provoke: () => Promise<unknown>, ...verdicts: Verdict[]]
type Verdict = readonly [circumstances: Circumstances, outcome: Outcome, scope: Scope, answer: string]

const rows: Row[] = [
  [
    'no server at the address',
    () => refused(nobody),
    [connecting, 'never-sent', 'endpoint', 'database-unavailable'],
    [{ ...write, phase: 'connect' }, 'never-sent', 'endpoint', 'database-unavailable'],
  ],
  [
    'a database that does not exist',
    () => refused(readUrl.split(',')[0]!.replace(/\/tessera(?=[?]|$)/, '/none')),
    [connecting, 'final', 'statement', 'error'],
  ],
  [
    'a session that cannot start because the disk is full',
    inItsWords('could not write init file'),
    [connecting, 'never-sent', 'endpoint', 'database-unavailable'],
  ],
  [
    'the connection is cut',
    cut,
    [read, 'retryable', 'endpoint', 'database-unavailable'],
    [within, 'never-sent', 'endpoint', 'database-unavailable'],
    [write, 'unknown', 'endpoint', 'change-outcome-unknown'],
  ],
  [
    'the server no longer answers',
    silent,
    [read, 'retryable', 'endpoint', 'database-unavailable'],
    [write, 'unknown', 'endpoint', 'change-outcome-unknown'],
  ],
  [
    'an administrator ends the session',
    terminated,
    [read, 'retryable', 'endpoint', 'database-unavailable'],
    [within, 'never-sent', 'endpoint', 'database-unavailable'],
    [write, 'unknown', 'endpoint', 'change-outcome-unknown'],
  ],
  [
    'the server dies while Citus waits for a worker (simulated by its message)',
    inItsWords('postmaster was shut down, exiting'),
    [read, 'retryable', 'endpoint', 'database-unavailable'],
    [within, 'never-sent', 'endpoint', 'database-unavailable'],
    [onCitus, 'unknown', 'endpoint', 'change-outcome-unknown'],
  ],
  [
    'a worker is lost before Citus has committed there (simulated by its message)',
    inItsWords('failure on connection marked as essential: 127.0.0.1:5432'),
    ...ofNode,
  ],
  [
    'a worker is lost before it has prepared (simulated by its message)',
    inItsWords('failed to prepare transaction on host 127.0.0.1:5432'),
    ...ofNode,
  ],
  ...[
    'server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally',
    'could not receive data from server: Connection reset by peer',
    'SSL SYSCALL error: EOF detected',
  ].map(
    (message): Row => [
      `a worker is lost within a statement of Citus (simulated by its message: ${message.split(/[:\n]/)[0]})`,
      inItsWords(message),
      ...ofNode,
    ],
  ),
  ...(isCitus
    ? ([['a worker is lost while Citus commits there', committedOnNobody, ...ofNode]] as Row[])
    : []),
  [
    'the statement takes too long',
    () => failureOf('select pg_sleep(10)', "set statement_timeout = '50ms'"),
    [read, 'final', 'statement', 'query-too-slow'],
    [write, 'final', 'statement', 'database-busy'],
    [within, 'final', 'statement', 'database-busy'],
    [onCitus, 'unknown', 'statement', 'change-outcome-unknown'],
  ],
  [
    'no space left for a sort',
    () =>
      failureOf(
        'select i from generate_series(1, 100000) i order by -i',
        "set temp_file_limit = 0; set work_mem = '64kB'",
        splitUrls(superuserUrl)[0],
      ),
    [read, 'retryable', 'statement', 'database-exhausted'],
    [write, 'final', 'statement', 'database-exhausted'],
    [within, 'final', 'statement', 'database-exhausted'],
  ],
  [
    'a deadlock',
    deadlock,
    [write, 'final', 'statement', 'database-busy'],
    // On a secondary, conflicts with the replay of WAL are of this class too.
    [read, 'retryable', 'statement', 'database-unavailable'],
  ],
  [
    'a server that is no longer a primary',
    () => failureOf('update outcomes set n = 3', 'set default_transaction_read_only = on'),
    [write, 'never-sent', 'endpoint', 'database-unavailable'],
  ],
  [
    'a read that tries to change something',
    () => failureOf('update outcomes set n = 3', 'set default_transaction_read_only = on'),
    [read, 'final', 'statement', 'error'],
  ],
  [
    'a duplicate of a unique value',
    () => failureOf('insert into outcomes values (1, 1)'),
    [write, 'final', 'statement', 'conflict'],
  ],
  [
    'a reference to a missing row',
    () => failureOf('insert into outcomes values (3, 1, 9)'),
    [write, 'final', 'statement', 'conflict'],
  ],
  [
    'a violated check constraint',
    () => failureOf('insert into outcomes values (3, -1)'),
    [write, 'final', 'statement', 'invalid'],
  ],
  [
    'a table that does not exist',
    () => failureOf('select from no_such_table'),
    [read, 'final', 'statement', 'collection-changing'],
  ],
  [
    'a value that is invalid for its type',
    () => failureOf("select '5x'::int"),
    [read, 'final', 'statement', 'parameter-invalid'],
  ],
  [
    'a syntax error, which is a bug',
    () => failureOf('selec 1'),
    [read, 'final', 'statement', 'error'],
    [write, 'final', 'statement', 'error'],
  ],
]

for (const [what, provoke, ...verdicts] of rows) {
  test(what, async () => {
    const error = await provoke()
    for (const [circumstances, outcome, scope, answer] of verdicts) {
      const failure = judge(error, circumstances)
      const { code, refusal, severity } = failure.answer as Error & Record<string, string>
      const told = refusal ?? (severity === undefined ? code : 'error')
      assert.deepEqual(
        [failure.outcome, failure.scope, told],
        [outcome, scope, answer],
        JSON.stringify(circumstances),
      )
    }
  })
}
