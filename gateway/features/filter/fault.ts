// Owns the errors of filters: what was expected, and at which position.

import { type ErrorFacts, type GatewayError, gatewayError } from '../../errors.ts'
import { GeometryError } from '../values/geometry.ts'

/** A part of a filter, by the operation that it is an operand of; the filter itself if there is none. */
export type Place = { readonly operation: object; readonly operand?: number } | undefined

/** Returns where a part stands, for people and as facts of a problem. */
export type Locate = (place: Place) => { readonly text: string; readonly facts: ErrorFacts }

/** Returns a position in CQL2 text. @param offset from 0, in UTF-16 units */
export function positionIn(source: string, offset: number): ReturnType<Locate> {
  const before = source.slice(0, offset)
  const line = before.split('\n').length
  return { text: `at position ${offset} (line ${line})`, facts: { position: offset, line } }
}

/** @param reason completes "the filter is not valid at …:" */
export const filterFault = ({ text, facts }: ReturnType<Locate>, reason: string): GatewayError =>
  gatewayError('parameter-invalid', `filter is not valid ${text}: ${reason}.`, {
    parameter: 'filter',
    ...facts,
  })

/**
 * Makes a geometry of a filter. @param faultOf returns the error of the filter at the place of the geometry
 * @throws GatewayError
 */
export function makeOrFault<T>(make: () => T, faultOf: (reason: string) => GatewayError): T {
  try {
    return make()
  } catch (error) {
    if (error instanceof GeometryError) throw faultOf(`the geometry ${error.message}`)
    throw error
  }
}

/** @param subject completes "a filter must have" */
export const tooLarge = (subject: string): GatewayError =>
  gatewayError('parameter-invalid', `filter must have ${subject}.`, { parameter: 'filter' })
