// Owns the addresses that lead to one database, such as those of two proxies.

import { isRefusal } from './outcome.ts'

/** Splits a setting that names one URL, or several separated by commas. */
export const splitUrls = (urls: string): readonly string[] => urls.split(/,(?=postgres(?:ql)?:\/\/)/)

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
