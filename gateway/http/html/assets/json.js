// Owns how pages parse and show JSON.

import { makeValueText } from './local.js'

/** Parses JSON. Integers beyond 2^53 become text, because a number would lose some of their digits. */
export const parseJson = (text) =>
  /\d{16,}/.test(text)
    ? JSON.parse(text, (_name, value, context) =>
        typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source)
          ? context.source
          : value,
      )
    : JSON.parse(text)

/** Reads an answer. @throws Error that explains to a person why there is none */
export async function readAnswer(response) {
  const text = await response.text()
  let answer
  try {
    answer = parseJson(text)
  } catch {
    throw new Error(`the gateway answered with status ${response.status} and no JSON`)
  }
  if (!response.ok) throw new Error(answer.detail)
  return answer
}

/** Returns a value as a field has it. */
export const textOf = (value) =>
  value === null || value === undefined
    ? ''
    : typeof value === 'object'
      ? JSON.stringify(value)
      : String(value)

/** Returns the value of a property as a cell shows it. */
export const shownText = makeValueText(document.documentElement.dataset.language)
