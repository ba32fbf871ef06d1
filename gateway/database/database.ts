// Owns the database as the features see it: opens its addresses, and puts reader, writer and cursor together.

import type { Admission } from './admission.ts'
import type { Caller, Database, DatabaseOptions, DatabaseStatus, Load } from './contract.ts'
import { stream } from './cursor.ts'
import { openEndpoints } from './endpoints.ts'
import { UNKNOWN_LSN } from './lsn.ts'
import { makeReader } from './reader.ts'
import { makeWriter } from './writer.ts'

const LAG_TIMEOUT_MS = 1_000

/** Opens the addresses of the database, and returns before any server answers. */
export function openDatabase(options: DatabaseOptions): Database {
  const endpoints = openEndpoints(options)
  const { workers, secondaries, primaries, groups, isReplicated } = endpoints
  const reader = makeReader(endpoints, options)
  const writer = makeWriter(endpoints)

  const status = (): DatabaseStatus => {
    const groupsWithoutPrimary = endpoints.orphanedGroups()
    return {
      endpoints: [...workers, ...secondaries, ...primaries].map(
        ({ name, port, group, isUp, admissions }) => ({
          endpoint: name,
          port,
          group,
          isUp,
          load: {
            read: loadOf(admissions.read),
            stream: loadOf(admissions.stream),
            write: loadOf(admissions.write),
          },
        }),
      ),
      groupsWithoutSecondary: groups.missing(),
      groupsWithoutPrimary,
      stalenessMs: new Map(
        groupsWithoutPrimary.map((group) => {
          const cell = groups.cellOf(group)
          return [group, endpoints.orphanedFor(cell === undefined ? undefined : [cell]) ?? 0]
        }),
      ),
      parked: writer.parked,
      parkedReads: reader.parked,
      reads: reader.reads,
    }
  }

  async function lag(): Promise<ReadonlyMap<number, number>> {
    const signal = AbortSignal.timeout(LAG_TIMEOUT_MS)
    // Secondaries come first, so that the lag is never reported as less than it is.
    const behind = await endpoints.positionAt(secondaries, signal)
    const ahead = await endpoints.positionAt(primaries, signal)
    const known = [...ahead].filter(([, lsn]) => lsn !== UNKNOWN_LSN)
    return new Map(known.map(([group, lsn]) => [group, Math.max(0, Number(lsn - behind.get(group)!))]))
  }

  const openFor = (caller: Caller): Database => ({
    within: (consistency, client) => openFor({ consistency, client }),
    read: async (statement, demand) => (await reader.readAll([statement], caller, demand))[0]!,
    readAll: (statements, demand) => reader.readAll(statements, caller, demand),
    stream: (statement, options = {}) => stream(reader, statement, caller, options),
    canWrite: primaries.length > 0,
    isReplicated,
    write: (statement, options) => writer.write(statement, caller, options),
    transact: (work, options) => writer.transact(work, caller, options),
    workerGroupOf: (cells) => (groups.haveSecondaries(cells) ? endpoints.workerOf(cells)?.group : undefined),
    async nodeGroupsOf(cells) {
      const found = await groups.groupsOf(cells)
      return found?.toSorted((a, b) => a - b)
    },
    status,
    lag,
    get isReadable() {
      return [...secondaries, ...primaries].some(({ isUp }) => isUp)
    },
    get isWritable() {
      return primaries.some(({ isUp }) => isUp)
    },
    close: endpoints.close,
  })
  return openFor({})
}

const loadOf = ({ running, waiting, limit }: Admission): Load => ({ running, waiting, limit })
