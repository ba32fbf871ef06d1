// Owns what tests of the cluster need from the machine. If that is missing, they report it, and are skipped.

import { ClusterError, findPlace, findPrograms } from '../place.ts'

const told = new Set<string>()

/** @returns the reason to skip a test; false if there is none */
export function whyNot(isCitus: boolean): string | false {
  const reason = findReason(isCitus)
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
