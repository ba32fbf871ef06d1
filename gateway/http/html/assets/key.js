// Owns the API key that a person has entered; this browser keeps it.

const KEY = 'tessera-key'

export const storedKey = () => localStorage.getItem(KEY) ?? ''

export const keepKey = (key) => localStorage.setItem(KEY, key)

/** Returns the headers that send a key; none if it is empty. */
export const withKey = (key = storedKey()) => (key ? { authorization: `Bearer ${key}` } : {})
