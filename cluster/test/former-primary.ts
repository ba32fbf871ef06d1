// Owns a primary that died and comes back as a secondary before it is rewound, with an end of its log that no other
// member has. Patroni starts a member like this if it cannot query the new primary in time.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from '../database-urls.ts'
import { faults } from '../fault.ts'
import { findPrimary } from '../launcher.ts'
import { dataFolderOf } from '../place.ts'
import type { Trial } from '../scenarios/stage.ts'
import type { Member } from '../topology.ts'

/** Bytes of log that only the former primary has: more than the new primary writes meanwhile. */
const TAIL = 800_000
const TIMEOUT_MS = 60_000

export type FormerPrimary = {
  readonly member: Member
  /** Returns true if its log goes further than that of the new primary. */
  isAhead(): Promise<boolean>
  /** Stops it, and starts Patroni on its data. */
  giveBack(): Promise<void>
}

/** Creates a former primary from one pair without Citus. */
export async function makeFormerPrimary({ cluster, query }: Trial): Promise<FormerPrimary> {
  const { place, programs, credentials } = cluster
  const group = place.topology.groups[0]!
  const member = await findPrimary(group)
  const successor = group.members.find((other) => other !== member)!
  const askAt = async ({ host, postgresPort }: Member, text: string) => {
    const client = await connect(credentials, 'postgres', { host, port: postgresPort }, {})
    const { rows } = await client.query(text).finally(() => client.end())
    return rows[0]
  }
  const { pid } = await askAt(successor, 'select pid from pg_stat_wal_receiver')
  // The receiver gets the signal to end while it is stopped, so it ends before it reads what was sent to it meanwhile.
  process.kill(pid, 'SIGSTOP')
  process.kill(pid, 'SIGTERM')
  // Its log ends in another segment than the new primary's, as it does after Patroni's recovery in single-user mode.
  await query(`begin; set local synchronous_commit = local; select pg_switch_wal();
    select pg_logical_emit_message(true, 'tessera', repeat('x', ${TAIL})); commit`)
  const undo = await faults.kill.inject(cluster, member.name)
  process.kill(pid, 'SIGCONT')
  const deadline = performance.now() + TIMEOUT_MS
  while ((await findPrimary(group).catch(() => undefined)) !== successor) {
    if (performance.now() > deadline) throw new Error(`${successor.name} did not become primary`)
    await sleep(100)
  }
  const data = dataFolderOf(place, member.name)
  const signalFile = join(data, 'standby.signal')
  writeFileSync(signalFile, '')
  if (place.account) chownSync(signalFile, place.account.uid, place.account.gid)
  const conninfo = `host=${successor.host} port=${successor.postgresPort} user=replicator password=${credentials.passwords.replicator} sslmode=require`
  const server = spawn(
    join(programs.postgresBinaries, 'postgres'),
    ['-D', data, '-c', `primary_conninfo=${conninfo}`],
    { stdio: 'ignore', ...place.account },
  )
  const ended = once(server, 'exit')
  // It has asked the new primary for its log, which refuses.
  const isReady = () =>
    askAt(member, 'select pg_is_in_recovery() and pg_last_wal_receive_lsn() is not null as it').then(
      ({ it }) => it,
      () => false,
    )
  while (!(await isReady())) {
    if (performance.now() > deadline) throw new Error(`${member.name} did not come back`)
    await sleep(100)
  }
  return {
    member,
    async isAhead() {
      const { reached } = await askAt(member, 'select pg_last_wal_replay_lsn() as reached')
      return (await askAt(successor, `select '${reached}'::pg_lsn > pg_current_wal_lsn() as it`)).it
    },
    async giveBack() {
      server.kill('SIGINT')
      await ended
      rmSync(signalFile)
      await undo()
    },
  }
}
