// Owns JSON as pages read and show it.

/** JSON whose integers beyond 2^53 are text: as numbers they would be others. */
export const parseJson = (text) =>
  /\d{16,}/.test(text)
    ? JSON.parse(text, (_name, value, context) =>
        typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source)
          ? context.source
          : value,
      )
    : JSON.parse(text)

/** A value as a cell or a field shows it. */
export const textOf = (value) =>
  value === null || value === undefined
    ? ''
    : typeof value === 'object'
      ? JSON.stringify(value)
      : String(value)
