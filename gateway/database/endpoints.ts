// Owns the addresses that lead to one database, such as those of two proxies: which of them is taken now.

import pg from 'pg'

/** A setting names one URL, or several separated by commas. */
export const splitUrls = (urls: string): readonly string[] => urls.split(/,(?=postgres(?:ql)?:\/\/)/)

export interface Endpoints {
  /** As pg.Client, to the address that is taken now. */
  readonly Client: typeof pg.Client
  /**
   * Runs `connect` with the address that answered last, and where nobody answers with each of the others.
   * @param withinMs after which there is no time left for another
   */
  reach<T>(connect: () => Promise<T>, withinMs: number): Promise<T>
}

/** @param urls at least one */
export function openEndpoints(urls: readonly string[]): Endpoints {
  let current = 0
  class EndpointClient extends pg.Client {
    constructor(options: pg.ClientConfig) {
      super({ ...options, connectionString: urls[current]! })
    }
  }
  return {
    Client: EndpointClient as typeof pg.Client,
    async reach(connect, withinMs) {
      const start = performance.now()
      for (let left = urls.length - 1; ; left--) {
        const taken = current
        try {
          return await connect()
        } catch (error) {
          // What PostgreSQL itself refuses, it refuses at every address.
          const isUnreachable = (error as { severity?: string }).severity === undefined
          // Others may have gone on to the next already.
          if (isUnreachable && current === taken) current = (current + 1) % urls.length
          if (!isUnreachable || left === 0 || performance.now() - start >= withinMs) throw error
        }
      }
    },
  }
}
