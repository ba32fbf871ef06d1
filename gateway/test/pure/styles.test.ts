// Tests the styles of the operator: what is refused at the start, and what of them is changed.

import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { UserError } from '../../errors.ts'
import { readStyles } from '../../http/styles.ts'

const folders: string[] = []
after(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true }))))

/** Writes files into a new folder. @param files content by their paths; a text is written as it is */
async function folderOf(files: Readonly<Record<string, unknown>>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tessera-styles-'))
  folders.push(folder)
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), typeof content === 'string' ? content : JSON.stringify(content))
  }
  return folder
}

const elsewhere = 'http://localhost:8080/geo'
const styleOf = (source: object, sourceLayer = 'cities') => ({
  version: 8,
  sources: { tiles: { type: 'vector', ...source } },
  layers: [{ id: 'dots', type: 'circle', source: 'tiles', 'source-layer': sourceLayer }],
})
const cities = styleOf({ url: `${elsewhere}/collections/cities/tilejson.json` })

test('sources with tiles of a gateway have those of this one, and others stay as they are', async () => {
  const folder = await folderOf({
    'style.json': {
      ...styleOf({ url: `${elsewhere}/tilejson.json?collections=cities` }),
      sources: {
        tiles: { type: 'vector', url: `${elsewhere}/tilejson.json?collections=cities` },
        single: { type: 'vector', tiles: ['/collections/a%2Fb/tiles/WebMercatorQuad/{z}/{y}/{x}?name=x'] },
        other: { type: 'vector', url: 'https://tiles.example/streets.json' },
        hills: { type: 'raster-dem', url: 'https://tiles.example/tilejson.json' },
      },
    },
    'collections/cities/style.json': cities,
    'collections/a%2Fb/style.json': styleOf({ url: '/collections/a%2Fb/tilejson.json' }, 'a/b'),
  })
  const styles = await readStyles(folder)
  const { sources, layers } = styles.of('https://example.org/x', undefined) as any
  assert.deepEqual(sources, {
    tiles: { type: 'vector', url: 'https://example.org/x/tilejson.json?collections=cities' },
    single: {
      type: 'vector',
      tiles: ['https://example.org/x/collections/a%2Fb/tiles/WebMercatorQuad/{z}/{y}/{x}?name=x'],
    },
    other: { type: 'vector', url: 'https://tiles.example/streets.json' },
    hills: { type: 'raster-dem', url: 'https://tiles.example/tilejson.json' },
  })
  assert.equal(layers.length, 1)
  const own = styles.of('https://example.org', 'cities') as any
  assert.equal(own.sources.tiles.url, 'https://example.org/collections/cities/tilejson.json')
  assert.ok(styles.of('https://example.org', 'a/b'))
  assert.equal(styles.of('https://example.org', 'countries'), undefined)
  assert.equal((await readStyles(undefined)).of('https://example.org', undefined), undefined)
})

test('a style that cannot be used is refused at the start, with its file and what is wrong', async () => {
  const refused: [Readonly<Record<string, unknown>>, RegExp][] = [
    [{}, /has no styles: they are style\.json and collections\/NAME\/style\.json in it/],
    [{ 'style.json': '{' }, /style\.json cannot be read: .*JSON/],
    [
      { 'style.json': { ...cities, version: 7 } },
      /style\.json cannot be used: version: expected one of \[8\]/,
    ],
    [{ 'style.json': 'null' }, /cannot be used: it must be an object/],
    [
      { 'style.json': { ...cities, layers: [{ id: 'x', type: 'circle', source: 'gone' }] } },
      /layers\[0\]: source "gone" not found/,
    ],
    [
      { 'style.json': styleOf({ url: 'https://tiles.example/streets.json' }) },
      /none of its sources has tiles of this gateway/,
    ],
    [{ 'collections/towns/style.json': cities }, /sources\.tiles: has tiles of something else than towns/],
    [
      { 'collections/cities/style.json': styleOf({ url: '/collections/cities/tilejson.json' }, 'city') },
      /layers\.dots: source-layer must be "cities"/,
    ],
    [{ 'collections/cities/other.json': {} }, /collections\/cities\/style\.json cannot be read: .*ENOENT/],
  ]
  for (const [files, message] of refused) {
    const folder = await folderOf(files)
    await assert.rejects(
      readStyles(folder),
      (error: Error) => error instanceof UserError && message.test(error.message),
      `${message}`,
    )
  }
  await assert.rejects(readStyles('/nowhere/styles'), /The styles in \/nowhere\/styles cannot be read/)
})
