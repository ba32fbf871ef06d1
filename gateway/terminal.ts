// Owns the output for a person at a terminal: the events of the log as sentences, and the progress of imports and exports.

import { SingleBar } from 'cli-progress'
import { type Emit, type Event, withoutSecrets } from './events.ts'

/** Interval between lines of progress if the output is not a terminal, which shows a bar instead. */
const LINE_INTERVAL_MS = 2_000

const seconds = (milliseconds: number) => `${(milliseconds / 1000).toFixed(1)} s`
const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`
const counted = (count: number, noun: string) =>
  `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`

/** Returns what PostgreSQL said, if that is the cause of an error that clients may see. */
const reasonOf = (error: Error) => (error.cause instanceof Error ? error.cause.message : error.message)

/** Returns the sentence for an event, or undefined if a person at a terminal does not need one. */
function sentenceOf(event: Event): string | undefined {
  switch (event.type) {
    case 'embedded-recovered':
      return `An earlier Tessera was killed; stopping the PostgreSQL that it left behind (process ${event.processId}) …`
    case 'embedded-started':
      return `Embedded PostGIS is up (${seconds(event.milliseconds)}); psql -h ${event.socket} -U tessera_read tessera`
    case 'embedded-archiving':
      return `Its log is archived in ${event.folder}${event.hasBackups ? '' : '; there is no backup yet: tessera backup creates one'}.`
    case 'archive-missing':
      return `Its log cannot be archived in ${event.folder}, and is kept until that works: ${event.error.message}`
    case 'embedded-died':
      return `PostgreSQL ended unexpectedly (${event.signal ?? event.code}):\n${event.log}`
    case 'embedded-stopped':
      return `Embedded PostGIS is stopped (${seconds(event.milliseconds)}).`
    case 'database-awaited':
      return `The database cannot be reached yet: ${event.error.message}; waiting for it …`
    case 'migration-applied':
      return `Migration ${event.file} applied.`
    case 'import-started':
      return `Importing ${event.collection} from ${event.source} …`
    case 'import-skipped-feature':
      return `${event.unit} ${event.line} ${event.reason}: left out.`
    case 'import-left-out-ids':
      return `Only ${counted(event.count, 'feature')} of ${event.collection} had an id; all of them get new ids.`
    case 'import-noted':
      return event.note
    case 'import-finished': {
      const skipped = event.skipped > 0 ? `, ${event.skipped.toLocaleString('en')} left out` : ''
      return `Imported ${counted(event.features, 'feature')} into ${event.collection}${skipped} (${seconds(event.milliseconds)}).`
    }
    case 'export-finished':
      return `Exported ${counted(event.features, 'feature')} of ${event.collection}, ${megabytes(event.bytes)} (${seconds(event.milliseconds)}).`
    case 'tiles-finished':
      return `Wrote ${counted(event.tiles, 'tile')} of ${event.collection}, ${megabytes(event.bytes)} (${seconds(event.milliseconds)}).`
    case 'catalog-load-failed':
      return `The list of collections could not be read: ${reasonOf(event.error)}`
    case 'grant-missing':
      return `${event.role} has no ${event.grant}: ${event.effect}.`
    case 'function-unpublished':
      return `Filters cannot call ${event.function}: ${event.reason}.`
    case 'relation-locked':
      return `${event.relation} is locked and can be served when the lock is gone.`
    case 'extent-unknown':
      return `The extent of ${event.collection} could not be computed: ${reasonOf(event.error)}`
    case 'issuer-missing':
      return `The keys of ${event.issuer} cannot be read: ${reasonOf(event.error)}`
    case 'issuer-back':
      return `The keys of ${event.issuer} can be read again.`
    case 'connection-lost':
      return `A ${event.port} connection was lost: ${event.error.message}`
    case 'connection-unencrypted':
      return `The connection to ${event.endpoint} is not encrypted: passwords and data can be read on the way.`
    case 'endpoint-down':
      return `${event.endpoint} (${event.port} port) is not used until it answers again: ${event.error.message}`
    case 'endpoint-up':
      return `${event.endpoint} (${event.port} port) answers again.`
    case 'primary-replaced':
      return `${event.to} is the primary of node group ${event.group} now; before, it was ${event.from}.`
    case 'secondary-missing':
      return `Node group ${event.group} has lost its secondary; it is read from its primary until it has one again.`
    case 'secondary-back':
      return `Node group ${event.group} is read from its secondary again.`
    case 'request-failed':
      return `${event.method} ${event.url} failed (request ${event.id}): ${event.error.stack}`
    case 'gateway-listening':
      return `Tessera serves ${counted(event.collections, 'collection')} at ${event.url} – documentation at ${event.url}/api.html – Ctrl-C stops it.`
    case 'gateway-exposed':
      return `Other machines can reach the gateway at ${event.host} without TLS: keys and data can be read on the way.`
    case 'certificate-loaded':
      return `The certificate of ${event.subject} is used from now on; it ends on ${event.ends}.`
    case 'certificate-refused':
      return `The certificate in use stays: ${event.error.message}`
    case 'process-died':
      return `Process ${event.processId} died (${event.reason ?? event.signal ?? event.code}); another takes its place.`
    case 'gateway-draining':
      return `${event.signal}: finishing the work in progress …`
    case 'gateway-stopped':
      return 'Stopped.'
    default:
      return undefined
  }
}

/** Returns a function that writes events; progress is a bar on a terminal, and plain lines on any other output. */
export function openTerminal(output: NodeJS.WriteStream): Emit {
  let bar: SingleBar | undefined
  let lastLine = 0
  const write = (line: string) => {
    bar?.stop()
    bar = undefined
    output.write(`${line}\n`)
  }
  /** @param done the work so far, as in `12 features read` */
  function advance(collection: string, done: string, stage: string, value: number, total: number) {
    if (!output.isTTY) {
      if (performance.now() - lastLine < LINE_INTERVAL_MS) return
      lastLine = performance.now()
      return write(`${collection}: ${done} …`)
    }
    if (!bar) {
      bar = new SingleBar({
        format: '{bar} {percentage}% | {done} | {stage}',
        stream: output,
        clearOnComplete: true,
        hideCursor: true,
      })
      bar.start(total, value, { done, stage })
    }
    bar.setTotal(total)
    bar.update(value, { done, stage })
  }
  return (event) => {
    if (event.type === 'import-advanced') {
      const { collection, features, done, total = done } = event
      return advance(
        collection,
        `${counted(features, 'feature')} read`,
        'reading',
        done,
        Math.max(done, total),
      )
    }
    if (event.type === 'export-advanced') {
      const { collection, features, total } = event
      const most = Math.max(total ?? features, features)
      return advance(collection, `${counted(features, 'feature')} written`, 'writing', features, most)
    }
    if (event.type === 'tiles-advanced') {
      const { collection, zoom, seen, total, tiles } = event
      return advance(collection, `${counted(tiles, 'tile')} written`, `zoom ${zoom}`, seen, total)
    }
    if (event.type === 'import-loading') {
      bar?.update({ stage: 'loading into PostGIS' })
      return
    }
    const sentence = sentenceOf(event)
    if (sentence) write(withoutSecrets(sentence))
  }
}
