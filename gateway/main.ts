#!/usr/bin/env node
// Owns the command line: chooses the command and ends the process. No other file calls process.exit.

import { readFileSync } from 'node:fs'
import { enableCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'
import { ConfigError, flagOf, settings, variableOf } from './config.ts'

/** @param formats name and title of each source format @param exported names of the formats that are written */
function usage(formats: Readonly<Record<string, string>>, exported: readonly string[]): string {
  const titles = Object.values(formats)
  const width = 32
  const lines = Object.entries(settings).map(([name, { does, default: fallback }]) => {
    const shown = fallback === undefined || String(fallback) === '' ? '' : ` [${fallback}]`
    return `  ${`${flagOf(name)}, ${variableOf(name)}`.padEnd(width + 24)}${does}${shown}`
  })
  return `tessera: PostGIS tables as OGC API Features

  tessera serve                                serve over HTTP; starts a PostGIS of its own if none is configured
  tessera import SOURCE --collection NAME      import ${titles.slice(0, -1).join(', ')} or ${titles.at(-1)}; SOURCE is a file, or - for stdin
    --append | --replace                       add to the collection, or replace it
    --id PROPERTY                              the property that identifies a feature
    --type PROPERTY:TYPE                       type of a column; repeat it for each property
    --title, --description, --license, --attribution TEXT
    --format ${Object.keys(formats).join('|')}
    --object NAME                              object of a topology to import
    --layer NAME, --source-crs EPSG:25832      layer that GDAL reads, and the system of its coordinates if it names none
    --longitude, --latitude COLUMN             columns of a CSV that hold its coordinates
    --skip-invalid                             leave out features that are not valid
    --distribute-by cell|id|reference          on Citus: store neighbouring features together (cell), spread
                                               them by id (id), or keep all of them on every node (reference)
    --level 8                                  level of the cells, 0 (coarse) to 15 (fine); by default the import chooses it
  tessera copy FROM NAME                       copy a collection of another server of OGC API Features; again goes on after an
                                               interruption. FROM is its address, as in https://example.org/collections/roads
    --headers FILE                             headers for that server, one in a line, for example with credentials
    --folder FOLDER                            what was read is kept here until all is stored [NAME.copy]
    --restart                                  forget what was read
    --new-ids                                  leave out the ids of the source
    --keeps-order                              a server without links to further pages has an order of its own
    and those of import about the collection: --append, --replace, --id, --type, --title, --skip-invalid, --distribute-by, …
  tessera export COLLECTION                    write a collection to a file, or to stdout
    -o, --output FILE                          its ending chooses the format
    --format ${exported.join('|')}
    --filter CONDITION, --bbox W,S,E,N, --datetime TIME
                                               the features to write
    --properties NAME,NAME, --sortby NAME      their properties and order
    --output-crs URI                           the system of their coordinates
    --skip-geometry, --csv-bom                 without geometries; with a byte order mark, for spreadsheets
  tessera tiles COLLECTION                     write the tiles of a collection to a file; again goes on after an interruption
    -o, --output FILE                          a name that ends with .pmtiles or .mbtiles
    --zoom 0-10                                the zooms
    --filter CONDITION, --datetime TIME, --properties NAME,NAME
                                               the features and their properties
  tessera tiles COLLECTION --prepare           create indexes for tiles of a collection with millions of points
  tessera purge [COLLECTION]                   make all gateways give up the tiles that they keep, of one collection or of all
  tessera keys create NAME                     create an API key for changes; it is shown only once
    --read-only                                a key that allows no changes
    --manage                                   a key that may also create, change and remove collections
    --collections NAME,NAME                    a key for these collections only
  tessera keys list | revoke ID
  tessera collections set NAME                 set something for one collection
    --crs CODE,CODE                            more coordinate systems in which it is served
    --require-precondition                     refuse changes without If-Match or If-Unmodified-Since
    --modified-column COLUMN                   keep the time of each change in this column, for Last-Modified
    --time-columns COLUMN | START,END          the time of a feature, for datetime
    --coordinate-epoch YEAR                    when its coordinates were true, as in 2017.23
    --readers, --creators, --editors, --removers ROLE,ROLE
                                               roles in tokens of those who may read and change it
    --audit ids|values                         keep who has changed which features, or also what they were
    --auditors ROLE,ROLE                       roles in tokens of those who may see it
  tessera collections list | reset NAME [SETTING …]
  tessera backup [--full]                      copy what has changed in the embedded PostGIS since its last backup, or everything
  tessera backups [--verify] [--json]          list its backups, and read whether each file is as it was written
  tessera restore [--to TIME]                  return to the end of the archived log, or to a time; what is there is kept aside
    --into FOLDER                              restore into another folder, next to what there is
    --from FOLDER, --backup-key FILE           from other backups than those of this database; --backup-store FILE for s3://…
  tessera audit [COLLECTION]                   show who has changed what, the newest first
    --since, --until 7d | 2031-12-31           the time of the changes
    --who NAME                                 id or name of an API key, subject of a token, or nobody
    --id FEATURE
    --limit 100                                none for all
    --json                                     for programs, with what is kept of the features
  tessera audit --keep 400d | forever          how long entries are kept
  tessera migrate                              bring Tessera's own tables up to date
  tessera doctor                               look for what is wrong with database, roles, tables and settings, and say what to do
    --json                                     for programs
  tessera help, version

Settings, as a flag or a variable; VARIABLE_FILE names a file that holds the value:
${lines.join('\n')}
`
}

type Command = (args: readonly string[]) => Promise<void>

const help = async () => {
  const { FORMAT_TITLES } = await import('./features/import/sources/format-name.ts')
  const { encoders } = await import('./features/formats/encoders.ts')
  const exported = encoders.map(({ format }) => format.name)
  process.stdout.write(usage(FORMAT_TITLES, exported))
}
const version = async () => {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  process.stdout.write(`tessera ${version}\n`)
}

/** Commands are loaded on demand, so that an import does not wait until the code of the server is compiled. */
const commands: Record<string, () => Promise<Command>> = {
  serve: async () => (await import('./commands/serve.ts')).serve,
  import: async () => (await import('./commands/import.ts')).runImport,
  copy: async () => (await import('./commands/copy.ts')).runCopy,
  export: async () => (await import('./commands/export.ts')).runExport,
  tiles: async () => (await import('./commands/tiles.ts')).runTiles,
  purge: async () => (await import('./commands/purge.ts')).runPurge,
  keys: async () => (await import('./commands/keys.ts')).runKeys,
  collections: async () => (await import('./commands/collections.ts')).runCollections,
  backup: async () => (await import('./commands/backup.ts')).runBackup,
  backups: async () => (await import('./commands/backup.ts')).runBackups,
  restore: async () => (await import('./commands/restore.ts')).runRestore,
  audit: async () => (await import('./commands/audit.ts')).runAudit,
  migrate: async () => (await import('./commands/migrate.ts')).runMigrate,
  doctor: async () => (await import('./commands/doctor.ts')).runDoctor,
  help: async () => help,
  version: async () => version,
}

// Commands find their modules compiled, and already without types. Node writes the folder when a process ends; it belongs to
// the installation, because code that others can write must not run. NODE_COMPILE_CACHE names another one.
enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/tessera', import.meta.url)))

const [name = 'serve', ...rest] = process.argv.slice(2)
const load = commands[name.replace(/^--(help|version)$/, '$1')]
try {
  if (!load)
    throw new ConfigError(
      `There is no command ${name}; the commands are ${Object.keys(commands).join(', ')}.`,
    )
  const command = await load()
  await command(rest)
} catch (error) {
  const { describeFailure } = await import('./commands/failure.ts')
  process.stderr.write(`tessera: ${describeFailure(error)}\n`)
  process.exitCode = 1
}
process.exit()
