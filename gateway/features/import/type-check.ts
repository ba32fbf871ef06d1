// Owns the check of values against the types that a person has given: only PostgreSQL knows all that each type takes.

import type { Session } from '../../database/session.ts'
import { type ColumnType, isFractional, textOfValue, withDecimalPoint } from './column-type.ts'
import type { SourceContent, SourceFeature } from './sources/source.ts'

/** Parts in which values are tried again if some are wrong: few statements whether one of them is or all. */
const PARTS = 8
/** Characters of a value that a message shows. */
const MAX_SHOWN = 40

type Given = { readonly feature: SourceFeature; readonly text: string }

/**
 * Yields the features of a source; one with a value that its type does not take has a problem instead.
 * @param types by property
 */
export async function* checkTypes(
  session: Session,
  content: SourceContent,
  types: ReadonlyMap<string, ColumnType>,
): AsyncGenerator<SourceFeature[]> {
  const checked = [...types].filter(([, type]) => type !== 'text' && type !== 'jsonb')
  for await (const batch of content.features) {
    const problems = new Map<SourceFeature, string>()
    for (const [property, type] of checked)
      for (const { feature, text } of await findWrong(
        session,
        type,
        valuesOf(batch, property, type, content),
      ))
        problems.set(
          feature,
          `has ${JSON.stringify(text.slice(0, MAX_SHOWN))} in ${property}, which is no ${type}`,
        )
    yield problems.size === 0 ? batch : batch.map((feature) => withProblem(feature, problems.get(feature)))
  }
}

const withProblem = (feature: SourceFeature, problem: string | undefined): SourceFeature =>
  problem === undefined ? feature : { line: feature.line, problem }

/** Returns the values of a property as COPY gets them. What cannot be stored at all is found elsewhere. */
function valuesOf(
  batch: readonly SourceFeature[],
  property: string,
  type: ColumnType,
  { hasTypes, hasDecimalCommas = false }: SourceContent,
): Given[] {
  const hasCommas = hasDecimalCommas && isFractional(type)
  return batch.flatMap((feature) => {
    const { properties } = feature
    if (!properties || !Object.hasOwn(properties, property)) return []
    const text = textOfValue(properties[property], type, hasTypes)
    return text == null ? [] : [{ feature, text: hasCommas ? withDecimalPoint(text) : text }]
  })
}

/** Returns those of the values that the type does not take. */
async function findWrong(session: Session, type: ColumnType, given: readonly Given[]): Promise<Given[]> {
  if (given.length === 0) return []
  try {
    await session.query(`select count(value::${type}) from unnest($1::text[]) as given (value)`, [
      given.map(({ text }) => text),
    ])
    return []
  } catch (error) {
    if (!isOfValue(error)) throw error
    if (given.length === 1) return [...given]
  }
  const size = Math.ceil(given.length / PARTS)
  const wrong: Given[] = []
  for (let start = 0; start < given.length; start += size)
    wrong.push(...(await findWrong(session, type, given.slice(start, start + size))))
  return wrong
}

/** Class 22 of SQLSTATE is about values. */
const isOfValue = (error: unknown) => /^22/.test((error as { code?: string }).code ?? '')
