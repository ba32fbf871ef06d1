// Owns the collection of all faults of a JSON body, for one answer that names them.

import { type Fault, type InvalidBody, invalidBody, listed, MAX_FAULTS, pointerOf } from '../../errors.ts'
import type { JsonObject } from './exact-json.ts'

export type Report = (pointer: string, detail: string) => void

/** Returns a function that takes faults, and one that throws them. */
export function collectFaults(code: InvalidBody) {
  const faults: Fault[] = []
  const report: Report = (pointer, detail) => {
    if (faults.length === MAX_FAULTS) throw invalidBody(code, faults, true)
    faults.push({ pointer, detail })
  }
  const end = () => {
    if (faults.length > 0) throw invalidBody(code, faults)
  }
  return { report, end }
}

export function checkMembers(object: JsonObject, known: readonly string[], pointer: string, report: Report) {
  for (const name of Object.keys(object))
    if (!known.includes(name))
      report(pointer + pointerOf(name), `is not known here; known are ${listed(known)}`)
}

/** Returns true if PostgreSQL can store a text: it has no NUL, and UTF-8 no half surrogate pairs. */
export const isText = (value: string) => !value.includes('\0') && value.isWellFormed()
