// Tests the rules of the house: what a file may import, which files may use the environment and end the process, and what
// names and documents must be like.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { basename, dirname, join, normalize } from 'node:path'
import { test } from 'node:test'
import { settings, variableOf } from '../config.ts'
import { errors } from '../errors.ts'

const root = join(import.meta.dirname, '../..')
const read = (file: string) => readFileSync(join(root, file), 'utf8')
const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .trim()
  .split('\n')
const sources = tracked.filter((file) => /^gateway\/.*\.ts$/.test(file) && !file.startsWith('gateway/test/'))

/** What a file imports: at its top, and later with `await import`. */
const importsOf = (file: string) =>
  [
    ...read(file).matchAll(
      /^(?:import|export)\s[^'"]*?from\s+'([^']+)'|^import\s+'([^']+)'|\bimport\('([^']+)'\)/gm,
    ),
  ].map(([, from, bare, later]) => (from ?? bare ?? later)!)
/** What is loaded together with a file: imports at its top that are more than types. */
const loadedWith = (file: string) =>
  [...read(file).matchAll(/^(?:import|export)\s(?!type\b)[^'"]*?from\s+'([^']+)'|^import\s+'([^']+)'/gm)].map(
    ([, from, bare]) => (from ?? bare)!,
  )

/** Floors (layers) of the gateway, lowest first. A file imports only from its own floor or from a lower one. */
const FLOORS = [
  /^gateway\/(errors|events|trace)\.ts$/,
  /^gateway\/database\//,
  /^gateway\/features\//,
  /^gateway\/http\//,
  /^gateway\/app\.ts$/,
  /^gateway\/(main|terminal|log|processes|watching-process|config|commands\/.*)\.ts$/,
]
const floorOf = (file: string) => FLOORS.findIndex((floor) => floor.test(file))

test('every file of the gateway belongs to a floor', () => {
  assert.deepEqual(
    sources.filter((file) => floorOf(file) < 0),
    [],
  )
})

test('imports never go up to a higher floor', () => {
  for (const file of sources) {
    for (const target of importsOf(file).filter((name) => name.startsWith('.'))) {
      const path = normalize(join(dirname(file), target))
      // Every file may import the types of config.ts, but only the top floor may import its values.
      if (path === 'gateway/config.ts' && new RegExp(`import type [^\\n]*'${target}'`).test(read(file)))
        continue
      assert.ok(floorOf(path) <= floorOf(file), `${file} imports ${path}, which is above it`)
    }
  }
})

/** Folders of features/, in order: each may import from those before it. */
const FEATURES = [
  'values',
  'access',
  'collections',
  'filter',
  'sharding',
  'formats',
  'query',
  'tiles',
  'changes',
  'import',
  'bulk',
]
const rankOf = (file: string) => FEATURES.indexOf(file.split('/')[2]!)

test('a folder of features/ imports only from folders before it', () => {
  for (const file of sources.filter((name) => name.startsWith('gateway/features/'))) {
    assert.ok(rankOf(file) >= 0, `${file} is in none of ${FEATURES.join(', ')}`)
    for (const target of importsOf(file).filter((name) => name.startsWith('.'))) {
      const path = normalize(join(dirname(file), target))
      if (path.startsWith('gateway/features/'))
        assert.ok(rankOf(path) <= rankOf(file), `${file} imports ${path}, which comes after it`)
    }
  }
})

test('imports have no cycles', () => {
  const graph = new Map(
    sources.map((file) => [
      file,
      importsOf(file)
        .filter((name) => name.startsWith('.'))
        .map((name) => normalize(join(dirname(file), name))),
    ]),
  )
  const done = new Set<string>()
  const visit = (file: string, path: string[]) => {
    assert.ok(!path.includes(file), `${[...path, file].join(' → ')}`)
    if (done.has(file)) return
    for (const next of graph.get(file) ?? []) visit(next, [...path, file])
    done.add(file)
  }
  for (const file of sources) visit(file, [])
})

test('the command line and the list of source formats load no package', () => {
  // Commands and formats load theirs when they are needed.
  const loaded = new Set(['gateway/main.ts', 'gateway/features/import/sources/formats.ts'])
  for (const file of loaded)
    for (const target of loadedWith(file)) {
      if (target.startsWith('.')) loaded.add(normalize(join(dirname(file), target)))
      else assert.match(target, /^node:/, `${file} loads ${target}`)
    }
  assert.deepEqual(importsOf('gateway/features/import/sources/format-name.ts'), [], 'the help loads formats')
})

test('a source format is one file, which only the list of formats knows', () => {
  // The demo data are files of a format that is known in advance, and so is what GDAL writes.
  const allowed = /^gateway\/features\/import\/(sources\/(formats|gdal)|demo)\.ts$/
  const formats = importsOf('gateway/features/import/sources/formats.ts')
    .map((target) => normalize(join('gateway/features/import/sources', target)))
    .filter((file) => !file.endsWith('/source.ts'))
  assert.ok(formats.length > 0)
  for (const file of sources.filter((name) => !allowed.test(name)))
    for (const target of importsOf(file).filter((name) => name.startsWith('.')))
      assert.ok(!formats.includes(normalize(join(dirname(file), target))), `${file} imports ${target}`)
})

const onlyIn = (what: string, pattern: RegExp, allowed: RegExp) =>
  test(`only ${allowed.source} ${what}`, () => {
    for (const file of sources.filter((name) => !allowed.test(name)))
      assert.doesNotMatch(read(file), pattern, file)
  })

onlyIn('imports the driver', /from '(pg|pg-copy-streams|opossum)'/, /^gateway\/database\//)
onlyIn('imports drizzle', /'drizzle-orm/, /^gateway\/database\/(sql|tables)\.ts$/)
onlyIn('imports the tables of migrations', /\/tables\.ts'/, /^drizzle\.config\.ts$/)
onlyIn(
  'imports Fastify',
  /from '(fastify|@fastify\/[^']+)'/,
  /^gateway\/(http\/|app\.ts|commands\/serve-requests\.ts)/,
)
onlyIn(
  'has the list of all collections',
  /import (type )?\{[^}]*\bCatalog\b[^}]*\} from '[^']*\/catalog\.ts'/,
  /^gateway\/(features\/collections\/|http\/visible\.ts|app\.ts|commands\/)/,
)
onlyIn('imports prom-client', /'prom-client/, /^gateway\/http\/prometheus\.ts$/)
onlyIn('imports OpenTelemetry', /@opentelemetry/, /^gateway\/trace\.ts$/)
onlyIn('reads the environment', /process\.env/, /^gateway\/config\.ts$/)
onlyIn('ends the process', /process\.exit\(/, /^gateway\/main\.ts$/)

test('cluster/ and loadtest/ use ports and URLs, and never import code of the gateway', () => {
  for (const file of tracked.filter((name) => /^(cluster|loadtest)\/.*\.ts$/.test(name))) {
    for (const target of importsOf(file)) assert.ok(!target.includes('gateway/'), `${file} imports ${target}`)
  }
})

test('the first line of a source file says what it owns', () => {
  for (const file of tracked.filter((name) => /\.(ts|mjs)$/.test(name))) {
    assert.match(read(file).replace(/^#!.*\n/, ''), /^\/\/ \S/, file)
  }
})

test('no comment begins with a fragment like "Of the shard itself" or "Whoever asks"', () => {
  const words = '(?:Of|Who|Whose|Whoever|Where)\\b'
  // A line that continues a comment may begin with any word.
  const block = new RegExp(`/\\*\\*?\\s*(?:\\n\\s*\\*)?\\s*${words}`)
  const line = new RegExp(`(?:^|\\s)//\\s*${words}`)
  const isComment = /^\s*\/\//
  for (const file of tracked.filter((name) =>
    /^(gateway|cluster|loadtest|openapi)\/.*\.(ts|js|mjs)$/.test(name),
  )) {
    const text = read(file)
    assert.doesNotMatch(text, block, file)
    const lines = text.split('\n')
    const found = lines.filter(
      (one, index) => line.test(one) && !(isComment.test(one) && isComment.test(lines[index - 1] ?? '')),
    )
    assert.deepEqual(found, [], file)
  }
})

test('no file has a meaningless name', () => {
  const banned = /^(utils?|helpers?|common|manager|service|index|misc|test\d+)\./
  assert.deepEqual(
    tracked.filter((file) => banned.test(basename(file))),
    [],
  )
})

test('no path of a machine and no host of a registry is committed', () => {
  // Assembled from parts, so that this file does not have the text that it looks for.
  const hosts = [
    ['registry', 'npmjs'].join('.'),
    ['proxy', 'golang'].join('.'),
    ['files', 'pythonhosted'].join('.'),
  ]
  const paths = ['work', 'root'].map((folder) => new RegExp(`(?<![\\w.}/])/${folder}/\\w`))
  for (const file of tracked.filter((name) => !/\.(png|gz)$/.test(name))) {
    const text = read(file)
    for (const host of hosts) assert.ok(!text.includes(host), `${file} names ${host}`)
    if (file !== 'package-lock.json') for (const path of paths) assert.doesNotMatch(text, path, file)
  }
})

test('no file has a mark for work to be done later', () => {
  const mark = new RegExp(
    `\\b(${['TO', 'FIX'].map((start, index) => start + ['DO', 'ME'][index]).join('|')})\\b`,
  )
  for (const file of tracked.filter((name) => /\.(ts|mjs|sql|md|yml)$/.test(name)))
    assert.doesNotMatch(read(file), mark, file)
})

const documents = tracked.filter((file) => file.endsWith('.md') && !file.startsWith('openapi/client/'))

test('documents link to files that exist', () => {
  for (const document of documents)
    for (const [, target] of read(document).matchAll(/\]\((?!https?:|mailto:|#)([^)#\s]+)/g)) {
      const path = normalize(join(dirname(document), target!))
      assert.ok(
        tracked.some((file) => file === path || file.startsWith(`${path.replace(/\/$/, '')}/`)),
        `${document} links to ${target}, which is not there`,
      )
    }
})

test('documents name files that exist', () => {
  // The changelog of a release names files that existed then.
  for (const document of documents.filter((name) => name !== 'CHANGELOG.md'))
    for (const [, path] of read(document).matchAll(
      /`((?:gateway|cluster|loadtest|openapi|sql|docs)\/[\w./-]+\.\w+)`/g,
    ))
      assert.ok(tracked.includes(path!), `${document} names ${path}, which is not there`)
})

test('docs/reference/configuration.md lists every setting, and no other', () => {
  const listed = [...read('docs/reference/configuration.md').matchAll(/^\| `(TESSERA_[A-Z_]+)` \|/gm)]
    .map(([, name]) => name)
    .sort()
  assert.deepEqual(listed, Object.keys(settings).map(variableOf).sort())
})

test('docs/reference/errors.md lists every error code, and no other', () => {
  const listed = [...read('docs/reference/errors.md').matchAll(/^\| `([a-z-]+)` \| \d{3} \|/gm)]
    .map(([, code]) => code)
    .sort()
  assert.deepEqual(listed, Object.keys(errors).sort())
})
