// Owns seeing one's own changes: the token of what this tab has changed goes along with what it reads.

const STORED = 'tessera-consistency'
const TOKEN = 'consistency-token'

/** @param headers others of the same request */
export function withToken(headers = {}) {
  const token = sessionStorage.getItem(STORED)
  return token ? { ...headers, [TOKEN]: token } : headers
}

/** Of a change that was asked for withToken: its token stands for the ones before. */
export function keepToken(response) {
  const token = response.headers.get(TOKEN)
  if (token) sessionStorage.setItem(STORED, token)
}
