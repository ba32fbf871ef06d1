// Owns the addresses that lead to one database, such as those of two proxies.

/** Splits a setting that names one URL, or several separated by commas. */
export const splitUrls = (urls: string): readonly string[] => urls.split(/,(?=postgres(?:ql)?:\/\/)/)

/**
 * SQLSTATEs of a connection that PostgreSQL refuses at every address: a wrong password, no such database, no right to
 * connect, a setting that it does not know. Any other failure, such as a full disk on which a session cannot start, is
 * that of one server.
 */
const REFUSED_CONNECTION = /^(22|28|3D|42)...$/
export const isRefusal = (cause: unknown) => REFUSED_CONNECTION.test((cause as { code?: string }).code ?? '')

/**
 * Connects to the first address that takes a connection.
 * @throws the error of the last address; at once if PostgreSQL itself refuses for good, for example a wrong password,
 * because it would do so at every address
 */
export async function connectToFirst<T>(
  urls: readonly string[],
  connect: (url: string) => Promise<T>,
): Promise<T> {
  for (const [index, url] of urls.entries()) {
    try {
      return await connect(url)
    } catch (error) {
      if (isRefusal(error) || index === urls.length - 1) throw error
    }
  }
  throw new Error('there is no address')
}

/** Returns the address of one URL with the role of another. */
export function asRoleOf(roleUrl: string, addressUrl: string): string {
  const [, role = ''] = /^postgres(?:ql)?:\/\/([^@/?]*@)?/.exec(roleUrl)!
  return addressUrl.replace(/^(postgres(?:ql)?:\/\/)(?:[^@/?]*@)?/, (_, scheme) => scheme + role)
}
