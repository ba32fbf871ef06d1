// Owns the addresses that lead to one database, such as those of two proxies: which of them is taken now.

import pg from 'pg'

/** A setting names one URL, or several separated by commas. */
export const splitUrls = (urls: string): readonly string[] => urls.split(/,(?=postgres(?:ql)?:\/\/)/)

export interface Endpoints {
  /** As pg.Client, to the address that is taken now. */
  readonly Client: typeof pg.Client
  /** Runs `connect` with the address that answered last, and where nobody answers with each of the others. */
  reach<T>(connect: () => Promise<T>): Promise<T>
}

/**
 * @param urls at least one
 * @param withinMs for all of them together: one that is silent leaves time for the next
 */
export function openEndpoints(urls: readonly string[], withinMs: number): Endpoints {
  let current = 0
  /** Of connections that nobody answered. What PostgreSQL refuses, it refuses at every address. */
  const unreachable = new WeakSet<Error>()

  class EndpointClient extends pg.Client {
    readonly #taken = current

    constructor(options: pg.ClientConfig) {
      super({
        ...options,
        connectionString: urls[current]!,
        connectionTimeoutMillis: Math.ceil(withinMs / urls.length),
      })
      // One that breaks also fails the query that waits for it, or the next; without a listener it would end
      // the process, for the pool listens only while nobody has it.
      this.on('error', () => {})
    }

    #note(error: Error | null | undefined) {
      if (!error || (error as { severity?: string }).severity !== undefined) return
      unreachable.add(error)
      // Others may have gone on to the next already.
      if (current === this.#taken) current = (current + 1) % urls.length
    }

    override connect(): Promise<this>
    override connect(callback: (error: Error) => void): void
    override connect(callback?: (error: Error) => void): Promise<this> | undefined {
      if (callback) {
        super.connect((error: Error) => {
          this.#note(error)
          callback(error)
        })
        return undefined
      }
      return super.connect().then(
        () => this,
        (error) => {
          this.#note(error)
          throw error
        },
      )
    }
  }

  return {
    Client: EndpointClient as typeof pg.Client,
    async reach(connect) {
      for (let left = urls.length - 1; ; left--) {
        try {
          return await connect()
        } catch (error) {
          if (!unreachable.has(error as Error) || left === 0) throw error
        }
      }
    },
  }
}
