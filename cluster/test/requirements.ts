// Owns what tests of the cluster need from the machine. If that is missing, they report it, and are skipped.

import { ClusterError, findPlace, findProgram, findPrograms } from '../place.ts'

const told = new Set<string>()

/** @returns the reason to skip a test; false if there is none */
export function whyNot(isCitus: boolean): string | false {
  return tell(findReason(isCitus))
}

/** @returns the reason to skip a test that backs a cluster up; false if there is none */
export const whyNotBackups = (isCitus: boolean): string | false =>
  tell(
    findReason(isCitus) ||
      (findProgram('pgbackrest') === undefined &&
        'SKIPPED: pgBackRest is not installed; backups were not tested'),
  )

function tell(reason: string | false): string | false {
  if (reason && !told.has(reason)) process.stderr.write(`\n*** ${reason} ***\n\n`)
  if (reason) told.add(reason)
  return reason
}

function findReason(isCitus: boolean): string | false {
  try {
    const { hasCitus } = findPrograms(findPlace(undefined, {}))
    if (hasCitus || !isCitus) return false
    return 'SKIPPED: Citus is not installed; the replicated Citus cluster was not tested'
  } catch (error) {
    if (error instanceof ClusterError) return `SKIPPED: ${error.message}`
    throw error
  }
}
