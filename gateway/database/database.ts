// Owns the database as the features see it: opens its addresses, and puts reader, writer and cursor together.

import type { Admission } from './admission.ts'
import type { Caller, Database, DatabaseOptions, DatabaseStatus, Load } from './contract.ts'
import { stream } from './cursor.ts'
import { openEndpoints } from './endpoints.ts'
import { UNKNOWN_LSN } from './lsn.ts'
import { makeOutages } from './outages.ts'
import { DatabaseFailure, unreachable } from './outcome.ts'
import { makeReader } from './reader.ts'
import { parseStored, STORED_BY_GROUP, STORED_HERE } from './stored.ts'
import { makeWriter } from './writer.ts'

const LAG_TIMEOUT_MS = 1_000
const STORED_TIMEOUT_MS = 2_000

/** Opens the addresses of the database, and returns before any server answers. */
export function openDatabase(given: DatabaseOptions): Database {
  const outages = makeOutages()
  const options: DatabaseOptions = {
    ...given,
    emit(event) {
      outages.note(event)
      given.emit(event)
    },
  }
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
      groups: groups.all(),
      members: groups.members(),
      groupsWithoutSecondary: groups.missing(),
      groupsWithoutPrimary,
      stalenessMs: new Map(
        groupsWithoutPrimary.map((group) => {
          const cell = groups.cellOf(group)
          return [group, endpoints.orphanedFor(cell === undefined ? undefined : [cell]) ?? 0]
        }),
      ),
      outages: outages.list(),
      failovers: outages.failovers(),
      parked: writer.parked,
      parkedReads: reader.parked,
      reads: reader.reads,
    }
  }

  async function lag(): Promise<ReadonlyMap<number, number>> {
    const signal = AbortSignal.timeout(LAG_TIMEOUT_MS)
    const orphaned = endpoints.orphanedGroups()
    const lagOf = async (group: number): Promise<[number, number][]> => {
      try {
        // The secondary comes first, so that the lag is never reported as less than it is.
        const behind = (await endpoints.positionAt(secondaries, signal, [group])).get(group)!
        const ahead = (await endpoints.positionAt(primaries, signal, [group])).get(group)!
        return ahead === UNKNOWN_LSN ? [] : [[group, Math.max(0, Number(ahead - behind))]]
      } catch (error) {
        if (error instanceof DatabaseFailure || signal.aborted) return []
        throw error
      }
    }
    // Without a primary there is nothing to be behind of.
    const asked = groups.all().filter((group) => !orphaned.includes(group))
    return new Map((await Promise.all(asked.map(lagOf))).flat())
  }

  async function stored() {
    if (groups.isCitus === undefined) throw unreachable(undefined)
    const statement = groups.isCitus ? STORED_BY_GROUP : STORED_HERE
    return parseStored(await endpoints.readOnce(statement, AbortSignal.timeout(STORED_TIMEOUT_MS)))
  }

  const openFor = (caller: Caller): Database => ({
    within: openFor,
    read: async (statement, demand) => (await reader.readAll([statement], caller, demand))[0]!,
    readAll: (statements, demand) => reader.readAll(statements, caller, demand),
    look: (cells, demand) => reader.look(cells, caller, demand),
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
    stored,
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
