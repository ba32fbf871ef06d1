// Owns `npm run bench -- causal`: clients change a feature through one gateway and read it through another one of the
// same cluster, with the token of the change, at the primary, and as it comes (without either).

import { databaseUrls, gatewayUrl } from '../../cluster/database-urls.ts'
import { openTrial } from '../../cluster/scenarios/stage.ts'
import { type Duration, median, send, span, startGateway, writeReport } from './measure.ts'

const CONNECTIONS = [1, 8]
const COLLECTION = '/collections/cities/items'

/** Headers of the read, given the token of the change before it. */
const WAYS: Readonly<Record<string, (token: string) => Record<string, string>>> = {
  'with its token': (token) => ({ 'consistency-token': token }),
  'at the primary': () => ({ prefer: 'consistency=strong' }),
  'as it comes': () => ({ prefer: 'consistency=eventual' }),
}
type Result = {
  readonly pairs: number
  readonly readMs: number
  readonly fromSecondary: number
  readonly stale: number
}

/** Plays clients that each change a feature of their own and read it at once. */
async function play(
  [here, there]: readonly [string, string],
  ids: readonly string[],
  seconds: number,
  headersOf: (token: string) => Record<string, string>,
): Promise<Result> {
  const times: number[] = []
  let [fromSecondary, stale] = [0, 0]
  const end = performance.now() + seconds * 1_000
  const playOne = async (id: string) => {
    while (performance.now() < end) {
      const admin2 = `${times.length} ${Math.random()}`
      const path = `${COLLECTION}/${id}`
      const headers = { 'content-type': 'application/merge-patch+json' }
      const body = JSON.stringify({ properties: { admin2 } })
      const changed = await send(here, { method: 'PATCH', path, headers, body })
      if (changed.status !== 200) throw new Error(changed.text)
      const start = performance.now()
      const token = String(changed.headers['consistency-token'])
      const seen = await send(there, { path, headers: headersOf(token) })
      times.push(performance.now() - start)
      if (seen.status !== 200) throw new Error(seen.text)
      if (seen.headers['tessera-source'] === 'secondary') fromSecondary++
      if (JSON.parse(seen.text).properties.admin2 !== admin2) stale++
    }
  }
  await Promise.all(ids.map(playOne))
  const pairs = times.length
  return { pairs: pairs / seconds, readMs: median(times), fromSecondary: fromSecondary / pairs, stale }
}

export async function measureCausal({ rounds, seconds }: Duration) {
  process.stderr.write('starting a cluster of eight members …\n')
  const trial = await openTrial({}, () => {})
  const { place, credentials } = trial.cluster
  const gateways: Awaited<ReturnType<typeof startGateway>>[] = []
  try {
    const environment = {
      TESSERA_READ_URL: databaseUrls(place.topology, credentials, 'tessera_read'),
      TESSERA_WORKER_READ_URL: gatewayUrl(place.topology, credentials, 'tessera_worker_read'),
      TESSERA_WRITE_URL: databaseUrls(place.topology, credentials, 'tessera_write'),
      TESSERA_OWNER_URL: databaseUrls(place.topology, credentials, 'tessera_owner'),
    }
    for (let number = 0; number < 2; number++)
      gateways.push(await startGateway(['--demo', '--processes', '1'], environment))
    const urls = gateways.map(({ url }) => url) as [string, string]
    const found = await trial.query(
      `select id from cities order by md5(id) limit ${Math.max(...CONNECTIONS)}`,
    )
    const ids = found.map(({ id }) => String(id))
    const rows: Record<string, string | number>[] = []
    for (const connections of CONNECTIONS) {
      const results = new Map<string, Result[]>(Object.keys(WAYS).map((way) => [way, []]))
      for (let round = 0; round < rounds; round++)
        for (const [way, headersOf] of Object.entries(WAYS))
          results.get(way)!.push(await play(urls, ids.slice(0, connections), seconds, headersOf))
      const eventual = results.get('as it comes')!
      for (const [way, played] of results) {
        const added = played.map(({ readMs }, round) => readMs - eventual[round]!.readMs)
        rows.push({
          connections,
          read: way,
          'pairs/s': Math.round(median(played.map(({ pairs }) => pairs))),
          'read p50, ms': Number(median(played.map(({ readMs }) => readMs)).toFixed(2)),
          'added, ms': Number(median(added).toFixed(2)),
          'least .. most': span(added),
          'from secondaries': Number(median(played.map(({ fromSecondary }) => fromSecondary)).toFixed(3)),
          'stale reads': played.reduce((sum, { stale }) => sum + stale, 0),
        })
      }
    }
    writeReport('causal', "Reading one's own changes", rows, { rounds, seconds })
  } finally {
    for (const gateway of gateways) await gateway.stop()
    await trial.close()
  }
}
