// Owns talking to etcd: over its JSON gateway, encrypted, with the certificate that authorizes the client.
// @see https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/

import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { lookUp } from './look-up.ts'

export type StoreAccess = {
  /** Base URLs of etcd's members, in the order in which they are queried. */
  readonly urls: readonly string[]
  readonly authorityFile: string
  readonly certificateFile: string
  readonly keyFile: string
}

/** A key, its value and its revision as etcd's gateway returns them: key and value are in base 64. */
export type KeyValue = { readonly key: string; readonly value: string; readonly mod_revision: string }

export interface Store {
  /** Queries one member after the other until one responds. @throws the failure of the last member if none responds */
  ask<T>(path: string, body: unknown): Promise<T>
  /** Returns all keys below a prefix. */
  readKeys(prefix: string): Promise<ReadonlyMap<string, KeyValue>>
  /** Writes a key that etcd deletes after this many seconds. */
  putForSeconds(key: string, seconds: number): Promise<void>
}

/** Milliseconds that one member has to respond. */
export const STORE_TIMEOUT_MS = 1_000

export const encode = (text: string) => Buffer.from(text).toString('base64')
export const decode = (text: string) => Buffer.from(text, 'base64').toString()

export function openStore({ urls, authorityFile, certificateFile, keyFile }: StoreAccess): Store {
  const [ca, cert, key] = [authorityFile, certificateFile, keyFile].map((file) => readFileSync(file, 'utf8'))
  const agent = new Agent({ keepAlive: true, ca, cert, key, lookup: lookUp })

  const post = (url: string, body: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const call = request(url, { method: 'POST', agent, signal: AbortSignal.timeout(STORE_TIMEOUT_MS) })
      call.on('error', reject)
      call.on('response', async (response) => {
        try {
          const chunks: Buffer[] = []
          for await (const chunk of response) chunks.push(chunk)
          if (response.statusCode !== 200) throw new Error(`${url} responded with ${response.statusCode}`)
          resolve(Buffer.concat(chunks).toString())
        } catch (error) {
          reject(error)
        }
      })
      call.end(body)
    })

  const store: Store = {
    async ask<T>(path: string, body: unknown): Promise<T> {
      let failure: unknown
      for (const url of urls) {
        try {
          return JSON.parse(await post(`${url}/v3/${path}`, JSON.stringify(body))) as T
        } catch (error) {
          failure = error
        }
      }
      throw failure
    },
    async readKeys(prefix) {
      const end = prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)
      const { kvs = [] } = await store.ask<{ kvs?: KeyValue[] }>('kv/range', {
        key: encode(prefix),
        range_end: encode(end),
      })
      return new Map(kvs.map((pair) => [decode(pair.key), pair]))
    },
    async putForSeconds(key, seconds) {
      const { ID } = await store.ask<{ ID: string }>('lease/grant', { TTL: seconds })
      await store.ask('kv/put', { key: encode(key), value: '', lease: ID })
    },
  }
  return store
}
