// Owns the exchange of one statement with the server: what is sent for it, and how its rows are read. It takes the
// place of the parts of the driver that describe and convert single values, which the gateway passes on as they are.

import pg from 'pg'
import { Parser } from 'pg-protocol/dist/parser.js'
import type { BytesRow, Row, Statement } from './statement.ts'

/** An answer had more bytes than it may have in memory. */
export class AnswerTooLong extends Error {
  /** The first rows, up to the one with which it got too long. */
  readonly rows: Row[]

  constructor(rows: Row[]) {
    super('The answer is too long to be held in memory.')
    this.rows = rows
  }
}

/** A row of an answer has more bytes than any row may have. Its statement was executed. */
export class RowTooLong extends Error {
  constructor() {
    super('A row is too long to be held in memory.')
  }
}

/** Most bytes of a row: it is in memory some four times for a moment, and a process serves others meanwhile. */
export const MAX_ROW_BYTES = 64 * 1024 * 1024

/** Bytes before the content of a message: its code, and how long it is without that. */
const HEAD_BYTES = 5
/** Code of a message that has a row. */
const DATA_ROW = 0x44

/** A row as it came over the connection. It is valid until the next message. */
class RowMessage {
  readonly name = 'dataRow'
  /** Bytes of the message, which are a few more than those of its values. */
  length = 0
  #bytes: Buffer = Buffer.alloc(0)
  #start = 0
  #isOwn = false

  /** @param isOwn true if nothing else will be written to these bytes */
  set(bytes: Buffer, start: number, length: number, isOwn: boolean) {
    this.#bytes = bytes
    this.#start = start + HEAD_BYTES
    this.length = length
    this.#isOwn = isOwn
    return this
  }

  /** Makes it a row that was dropped, of which there is only the length. */
  drop(length: number) {
    this.length = length
    return this
  }

  get isTooLong() {
    return this.length > MAX_ROW_BYTES
  }

  /** The values as texts, for the driver's own queries. */
  get fields(): Row {
    return this.read(false) as Row
  }

  /** @param isRaw true if the first value stays bytes */
  read(isRaw: boolean): Row | BytesRow {
    const bytes = this.#bytes
    let at = this.#start
    const count = bytes.readInt16BE(at)
    at += 2
    const row = new Array<string | Buffer | null>(count)
    for (let index = 0; index < count; index++) {
      const length = bytes.readInt32BE(at)
      at += 4
      if (length < 0) {
        row[index] = null
        continue
      }
      const end = at + length
      row[index] = isRaw && index === 0 ? this.#keep(at, end) : bytes.toString('utf8', at, end)
      at = end
    }
    return row as unknown as Row | BytesRow
  }

  #keep(start: number, end: number): Buffer {
    const bytes = this.#bytes.subarray(start, end)
    return this.#isOwn ? bytes : Buffer.from(bytes)
  }
}

type Message = { readonly name: string }

/**
 * Takes what a connection receives apart into messages. One that arrives in several pieces gets memory of its own, of
 * just its size; rows are not parsed, and all others are left to the driver's parser.
 */
class MessageReader {
  readonly #take: (message: Message) => void
  readonly #parser = new Parser()
  readonly #row = new RowMessage()
  /** A message that has not arrived completely, or only its head, and how many of its bytes are there. */
  #partial: Buffer | undefined
  #filled = 0
  /** Bytes that are still to come of a row that is too long, and is dropped while it arrives. */
  #dropped = 0

  constructor(take: (message: Message) => void) {
    this.#take = take
  }

  read(bytes: Buffer) {
    let at = 0
    while (at < bytes.length) {
      if (this.#partial) {
        at = this.#fill(this.#partial, bytes, at)
        continue
      }
      if (this.#dropped > 0) {
        const taken = Math.min(this.#dropped, bytes.length - at)
        this.#dropped -= taken
        at += taken
        continue
      }
      const length = bytes.length - at < HEAD_BYTES ? HEAD_BYTES : lengthOf(bytes, at)
      if (at + length <= bytes.length) {
        this.#give(bytes, at, length, false)
        at += length
      } else if (this.#isDropped(bytes, at, length)) {
        at += HEAD_BYTES
      } else {
        this.#partial = Buffer.allocUnsafeSlow(length)
        this.#filled = 0
      }
    }
  }

  /** Drops a row that is too long: its statement is told, and the rest of it is skipped. */
  #isDropped(bytes: Buffer, at: number, length: number): boolean {
    if (length <= MAX_ROW_BYTES || bytes[at] !== DATA_ROW) return false
    this.#dropped = length - HEAD_BYTES
    this.#take(this.#row.drop(length))
    return true
  }

  /** @returns where the bytes after those that were taken begin */
  #fill(partial: Buffer, bytes: Buffer, at: number): number {
    const taken = bytes.copy(partial, this.#filled, at)
    this.#filled += taken
    if (this.#filled < partial.length) return at + taken
    const length = lengthOf(partial, 0)
    this.#partial = undefined
    if (length === partial.length) this.#give(partial, 0, length, true)
    else if (!this.#isDropped(partial, 0, length)) {
      // This was the head alone.
      this.#partial = Buffer.allocUnsafeSlow(length)
      partial.copy(this.#partial)
    }
    return at + taken
  }

  #give(bytes: Buffer, start: number, length: number, isOwn: boolean) {
    if (bytes[start] === DATA_ROW) this.#take(this.#row.set(bytes, start, length, isOwn))
    else this.#parser.parse(bytes.subarray(start, start + length), this.#take)
  }
}

/** Returns the length of a message with its head. */
const lengthOf = (bytes: Buffer, at: number) => 1 + bytes.readUInt32BE(at + 1)

/** Members of every connection of the driver that its types do not declare. */
type DriverConnection = {
  /** Texts of the statements that the server has prepared, by their names. */
  readonly parsedStatements: Record<string, string>
  attachListeners(stream: NodeJS.ReadableStream): void
  parse(statement: { readonly text: string }): void
  bind(portal: { readonly values: readonly unknown[] }): void
  execute(portal: object): void
  describe(): void
  emit(event: string, message: Message): void
}

/**
 * Lets the rows of a connection reach their statements unparsed, and without a description in front of them: every value
 * is a text. The connection must not be open yet.
 */
export function keepRowsRaw(client: pg.ClientBase) {
  const { connection } = client as unknown as { connection: DriverConnection }
  connection.describe = () => {}
  connection.attachListeners = (stream) => {
    const reader = new MessageReader((message) =>
      connection.emit(message.name === 'error' ? 'errorMessage' : message.name, message),
    )
    stream.on('data', (bytes: Buffer) => reader.read(bytes))
  }
}

type Settle = (error: Error | null, rows?: Row[]) => void

/** The driver's query, with members that its types do not declare. */
const DriverQuery = pg.Query as unknown as new (
  text: string,
  values: readonly unknown[],
  settle: Settle,
) => {
  name: string | undefined
  callback: Settle
  requiresPreparation(): boolean
  hasBeenParsed(connection: DriverConnection): unknown
  prepare(connection: DriverConnection): void
  handleError(error: Error, connection: DriverConnection): void
}

/** A statement on its way, as the driver takes it. */
class Exchange extends DriverQuery {
  /** The driver takes this time limit, in milliseconds, from the query itself. */
  readonly query_timeout: number
  readonly #isRaw: boolean
  readonly #isCounted: boolean
  readonly #mostBytes: number
  readonly #before: readonly Statement[]
  /** Statements before this one that have not ended yet. */
  #pending: number
  /** True if it was not prepared before. */
  #isNew = false
  readonly #rows: Row[] = []
  #bytes = 0
  #isTooLong = false

  constructor(
    { name, text, values, isRaw = false, isCounted = false }: Statement,
    timeoutMs: number,
    { mostBytes = Number.POSITIVE_INFINITY, before = [] }: ExchangeOptions,
    settle: Settle,
  ) {
    super(text, values, settle)
    this.name = name
    this.query_timeout = timeoutMs
    this.#isRaw = isRaw
    this.#isCounted = isCounted
    this.#mostBytes = mostBytes
    this.#before = before
    this.#pending = before.length
  }

  override requiresPreparation() {
    return this.#before.length > 0 || super.requiresPreparation()
  }

  /** Without a sync in between, the server skips the rest if one of the statements fails. */
  override prepare(connection: DriverConnection) {
    this.#isNew = !this.hasBeenParsed(connection)
    for (const { text, values } of this.#before) {
      connection.parse({ text })
      connection.bind({ values })
      connection.execute({})
    }
    super.prepare(connection)
  }

  override handleError(error: Error, connection: DriverConnection) {
    // The driver takes the statement for prepared as soon as one before it is.
    if (this.#pending > 0 && this.#isNew && this.name) delete connection.parsedStatements[this.name]
    super.handleError(error, connection)
  }

  handleRowDescription() {}

  handleDataRow(message: RowMessage) {
    if (this.#pending > 0) return
    if (message.isTooLong) this.#isTooLong = true
    if (this.#isTooLong || this.#bytes > this.#mostBytes) return
    this.#bytes += message.length
    this.#rows.push(message.read(this.#isRaw) as Row)
  }

  /** @param text such as `UPDATE 5` */
  handleCommandComplete({ text }: { readonly text: string }) {
    if (this.#pending > 0) this.#pending--
    else if (this.#isCounted) this.#rows.push([/\d+$/.exec(text)?.[0] ?? '0'])
  }

  handleReadyForQuery() {
    if (this.#isTooLong) this.callback(new RowTooLong())
    else if (this.#bytes > this.#mostBytes) this.callback(new AnswerTooLong(this.#rows))
    else this.callback(null, this.#rows)
  }
}

export type ExchangeOptions = {
  /** Bytes of rows after which further ones are dropped; undefined for any number. */
  readonly mostBytes?: number | undefined
  /** Statements without names that are sent with it, and run before it. If one of them fails, it is not executed. */
  readonly before?: readonly Statement[]
}

/**
 * Sends a statement, and returns its rows.
 * @param timeoutMs how long the driver waits for them
 * @throws AnswerTooLong; RowTooLong; the driver's error
 */
export const exchange = (
  connection: pg.ClientBase,
  statement: Statement,
  timeoutMs: number,
  options: ExchangeOptions = {},
): Promise<Row[]> =>
  new Promise((resolve, reject) => {
    const settle: Settle = (error, rows) => (error ? reject(error) : resolve(rows!))
    connection.query(new Exchange(statement, timeoutMs, options, settle) as unknown as pg.Submittable)
  })
