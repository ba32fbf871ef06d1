// Owns the bare server: nothing but Node.js and the driver around the floor's statement, whose text for a page is made by
// PostgreSQL, with a process for each core. It checks nothing, and promises nothing.

import cluster from 'node:cluster'
import { createServer } from 'node:http'
import { availableParallelism } from 'node:os'
import pg from 'pg'
import type { Ask } from './ask.ts'
import { sqlOf } from './floor.ts'

/** Connections of each process. */
const CONNECTIONS = 10
/** Fields of an ask that change from request to request; all others are part of the statement. */
const DRAWN = ['x', 'y', 'id', 'country', 'population']

/** Returns the statement for the fields of a request, and its values. */
function statementOf(fields: URLSearchParams) {
  const values: string[] = []
  const bind = (name: string) => {
    const value = fields.get(name)
    return value === null ? undefined : `$${values.push(value)}`
  }
  const [x, y, id, country, population] = DRAWN.map(bind)
  const number = (name: string) => (fields.has(name) ? Number(fields.get(name)) : undefined)
  const ask = {
    table: fields.get('table')!,
    limit: number('limit'),
    degrees: number('degrees'),
    above: number('above'),
    change: fields.get('change') ?? undefined,
    ...(x && y ? { corner: [`${x}::float8`, `${y}::float8`] } : {}),
    id,
    country,
    population,
  } as Ask<string>
  const sql = sqlOf(ask)
  const text = ask.change ? sql : `select string_agg(feature, ',') from (${sql}) as page(feature)`
  return { text, values, isPage: ask.limit !== undefined }
}

function serve() {
  const pool = new pg.Pool({ max: CONNECTIONS })
  const names = new Map<string, string>()
  const nameOf = (text: string) => {
    if (!names.has(text)) names.set(text, `bare_${names.size}`)
    return names.get(text)!
  }
  const answer = async (url: string) => {
    const { text, values, isPage } = statementOf(new URLSearchParams(url.slice(url.indexOf('?') + 1)))
    const { rows } = await pool.query({ name: nameOf(text), text, values, rowMode: 'array' })
    const found = rows[0]?.[0] ?? ''
    return Buffer.from(isPage ? `{"type":"FeatureCollection","features":[${found}]}` : found)
  }
  createServer((request, response) => {
    answer(request.url!).then(
      (body) => {
        response.writeHead(200, { 'content-type': 'application/geo+json', 'content-length': body.length })
        response.end(body)
      },
      (error) => response.writeHead(500).end(String(error)),
    )
  }).listen(Number(process.env.PORT), '127.0.0.1')
}

if (cluster.isPrimary) for (let core = 0; core < availableParallelism(); core++) cluster.fork()
else serve()
