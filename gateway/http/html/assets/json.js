// Owns how pages parse and show JSON.

/** Parses JSON. Integers beyond 2^53 become text, because a number would lose some of their digits. */
export const parseJson = (text) =>
  /\d{16,}/.test(text)
    ? JSON.parse(text, (_name, value, context) =>
        typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source)
          ? context.source
          : value,
      )
    : JSON.parse(text)

/** Returns a value as a cell or a field shows it. */
export const textOf = (value) =>
  value === null || value === undefined
    ? ''
    : typeof value === 'object'
      ? JSON.stringify(value)
      : String(value)
