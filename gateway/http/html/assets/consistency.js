// Owns the token of the changes that this tab has made; reads send it, so that they see these changes.

const STORED = 'tessera-consistency'
const TOKEN = 'consistency-token'

/** Returns the headers of a request with the token, if there is one. @param headers other headers of the request */
export function withToken(headers = {}) {
  const token = sessionStorage.getItem(STORED)
  return token ? { ...headers, [TOKEN]: token } : headers
}

/** Stores the token of a change whose request was sent withToken; it also stands for the tokens before it. */
export function keepToken(response) {
  const token = response.headers.get(TOKEN)
  if (token) sessionStorage.setItem(STORED, token)
}
