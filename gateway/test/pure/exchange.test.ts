// Tests how what a connection receives is taken apart into messages, wherever the network has cut it.

import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import type pg from 'pg'
import { keepRowsRaw, MAX_ROW_BYTES } from '../../database/exchange.ts'
import { makeRandom } from '../support/random.ts'

const message = (code: string, content: Buffer) => {
  const head = Buffer.from(`${code}....`)
  head.writeInt32BE(content.length + 4, 1)
  return Buffer.concat([head, content])
}

const dataRow = (values: readonly (string | null)[]) => {
  const count = Buffer.alloc(2)
  count.writeInt16BE(values.length)
  const parts = values.flatMap((value) => {
    const length = Buffer.alloc(4)
    length.writeInt32BE(value === null ? -1 : Buffer.byteLength(value))
    return [length, Buffer.from(value ?? '')]
  })
  return message('D', Buffer.concat([count, ...parts]))
}

type RowMessage = { read(isRaw: boolean): readonly (Buffer | string | null)[] }

/** Reads pieces as a connection does. @returns the names of its messages, and the values of its rows */
function receive(pieces: readonly Buffer[]) {
  const connection = Object.assign(new EventEmitter(), {
    attachListeners(_stream: EventEmitter) {},
    describe() {},
  })
  keepRowsRaw({ connection } as unknown as pg.ClientBase)
  const names: string[] = []
  const rows: (readonly (Buffer | string | null)[])[] = []
  for (const name of ['bindComplete', 'commandComplete', 'readyForQuery', 'errorMessage'])
    connection.on(name, () => names.push(name))
  connection.on('dataRow', (row: RowMessage) => {
    names.push('dataRow')
    assert.deepEqual(row.read(false), (row as unknown as { fields: unknown }).fields)
    rows.push(row.read(true))
  })
  const stream = new EventEmitter()
  connection.attachListeners(stream)
  // The memory of a piece is used again for the next one.
  for (const piece of pieces) {
    const passing = Buffer.from(piece)
    stream.emit('data', passing)
    passing.fill(0)
  }
  return { names, rows: rows.map(([first, ...rest]) => [first && String(first), ...rest]) }
}

test('a row that is too long is dropped while it arrives, and what follows is complete', () => {
  const head = Buffer.from('D....')
  head.writeInt32BE(MAX_ROW_BYTES + 1, 1)
  const connection = Object.assign(new EventEmitter(), {
    attachListeners(_stream: EventEmitter) {},
    describe() {},
  })
  keepRowsRaw({ connection } as unknown as pg.ClientBase)
  const seen: string[] = []
  connection.on('dataRow', ({ isTooLong }) => seen.push(isTooLong ? 'long' : 'short'))
  connection.on('commandComplete', () => seen.push('end'))
  const stream = new EventEmitter()
  connection.attachListeners(stream)
  const row = dataRow(['{}', '1'])
  const end = message('C', Buffer.from('SELECT 2\0'))
  const piece = Buffer.alloc(1024 * 1024, 'x')
  for (const cut of [0, 3, 5]) {
    seen.length = 0
    stream.emit('data', head.subarray(0, cut))
    stream.emit('data', head.subarray(cut))
    let left = MAX_ROW_BYTES + 1 - 4
    for (; left > piece.length; left -= piece.length) stream.emit('data', piece)
    stream.emit('data', Buffer.concat([piece.subarray(0, left), row, end]))
    assert.deepEqual(seen, ['long', 'short', 'end'])
  }
})

test('rows and other messages are complete, however the network has cut them', () => {
  const random = makeRandom(7)
  const rows = [
    ['{"name":"Zürich"}', '1'],
    ['é'.repeat(40_000), null, '2'],
    [null, ''],
    ['', '3', '☃'],
  ]
  const sent = Buffer.concat([
    message('2', Buffer.alloc(0)),
    ...rows.map(dataRow),
    message('C', Buffer.from('SELECT 4\0')),
    message('Z', Buffer.from('I')),
    message('E', Buffer.from('SERROR\0C22012\0Mdivision by zero\0\0')),
  ])
  const names = [
    'bindComplete',
    ...rows.map(() => 'dataRow'),
    'commandComplete',
    'readyForQuery',
    'errorMessage',
  ]
  assert.deepEqual(receive([sent]), { names, rows })
  for (const most of [1, 3, 7, 1_000, 70_000])
    for (let round = 0; round < 5; round++) {
      const pieces: Buffer[] = []
      for (let at = 0; at < sent.length; ) {
        const size = 1 + Math.floor(random() * most)
        pieces.push(sent.subarray(at, at + size))
        at += size
      }
      assert.deepEqual(receive(pieces), { names, rows }, `pieces of up to ${most} bytes`)
    }
})
