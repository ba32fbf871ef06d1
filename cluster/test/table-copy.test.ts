// Tests the copy of a collection's table into another database: rows, definition, distribution and rights are the same,
// and nothing is left of a copy that fails. Both databases are on one server of the test's own, with Citus if it is
// installed.

import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { chownSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import pg from 'pg'
import { copyTable, describeTable, refuseTaken } from '../backup/table-copy.ts'
import { findAccount } from '../daemon.ts'
import { findPlace, findPrograms } from '../place.ts'
import { makeScratch } from '../scenarios/stage.ts'
import { LOOPBACK } from '../topology.ts'
import { whyNot } from './requirements.ts'

const skip = whyNot(false)
const checkout = join(import.meta.dirname, '../..')
/** Databases of before and of now. */
const NAMES = ['then', 'now'] as const
const LEVEL = 8

let port = 0
let hasCitus = false
/** Superuser of the first database, and superuser and owner of the second one. */
let source: pg.Client
let target: pg.Client
let owner: pg.Client

const clients: pg.Client[] = []

async function open(user: string, database: string): Promise<pg.Client> {
  const client = new pg.Client({ host: LOOPBACK, port, user, database })
  await client.connect()
  clients.push(client)
  return client
}

if (!skip) await startServer()

async function startServer() {
  const programs = findPrograms(findPlace(undefined, {}))
  hasCitus = programs.hasCitus
  const account = findAccount()
  const scratch = makeScratch('copy')
  const data = join(scratch, 'data')
  mkdirSync(data, { mode: 0o700 })
  if (account) chownSync(data, account.uid, account.gid)
  const run = (program: string, ...args: string[]) =>
    execFileSync(join(programs.postgresBinaries, program), ['-D', data, ...args], {
      cwd: data,
      stdio: 'pipe',
      ...account,
    })
  port = await findFreePort()
  run('initdb', '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync')
  const settings = {
    port,
    listen_addresses: LOOPBACK,
    unix_socket_directories: '',
    fsync: 'off',
    max_prepared_transactions: 50,
    ...(hasCitus
      ? {
          shared_preload_libraries: 'citus',
          'citus.shard_count': 4,
          'citus.node_conninfo': 'sslmode=disable',
        }
      : {}),
  }
  const options = Object.entries(settings).map(([name, value]) => `-c ${name}='${value}'`)
  run('pg_ctl', '-w', '-t', '120', '-l', join(data, 'server.log'), '-o', options.join(' '), 'start')
  after(async () => {
    for (const client of clients) await client.end()
    run('pg_ctl', '-m', 'immediate', 'stop')
    rmSync(scratch, { recursive: true })
  })
  const postgres = await open('postgres', 'postgres')
  for (const name of NAMES) {
    await postgres.query(`create database "${name}"`)
    const client = await open('postgres', name)
    if (hasCitus) {
      await client.query('create extension citus')
      await client.query('select citus_set_coordinator_host($1, $2)', [LOOPBACK, port])
      await client.query("select citus_set_node_property($1, $2, 'shouldhaveshards', true)", [LOOPBACK, port])
    }
    await client.query(readFileSync(join(checkout, 'sql/bootstrap/roles.sql'), 'utf8'))
    await promisify(execFile)(process.execPath, [join(checkout, 'gateway/main.ts'), 'migrate', '--no-demo'], {
      env: {
        PATH: process.env.PATH,
        HOME: scratch,
        TESSERA_OWNER_URL: `postgresql://tessera_owner@${LOOPBACK}:${port}/${name}`,
      },
    })
    if (name === 'then') source = client
    else target = client
  }
  owner = await open('tessera_owner', 'now')
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, LOOPBACK)
  await new Promise((resolve) => server.once('listening', resolve))
  const { port: found } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return found
}

/** Runs statements as the owner of Tessera's tables in the first database. */
async function prepare(text: string) {
  await source.query(`set search_path = public; set role tessera_owner; ${text}; reset role`)
}

const rowsOf = async (client: pg.Client, text: string, values: readonly unknown[] = []) =>
  (await client.query(text, [...values])).rows

const copy = async (id: string, name: string) =>
  copyTable(source, owner, await describeTable(source, id), name)

test('a collection that Tessera has created is the same under its new name', { skip }, async () => {
  const definition = {
    columns: [{ name: 'name', type: 'text', isRequired: true, minLength: 1, comment: "the road's name" }],
    geometry: { type: 'Point', isRequired: true },
    idType: 'bigint',
    level: LEVEL,
    distribution: 'cell',
  }
  await prepare(`
    select tessera.create_collection('roads', '${JSON.stringify(definition).replaceAll("'", "''")}',
      '{"title": "All roads"}');
    insert into roads (cell, id, geom, name, updated_at)
    select tessera.cell(geom, ${LEVEL}), tessera.cell(geom, ${LEVEL}) || '.' || i, geom, E'a\\tb\\\\ ' || i, '2026-11-27Z'
    from generate_series(1, 300) i, lateral (select st_setsrid(st_makepoint(i - 150.1, i / 7.0), 4326)) g (geom);
    insert into tessera.moved_feature values
      ('public', 'roads', 7, '7.1', 9), ('public', 'others', 7, '7.2', 9);
    update tessera.collection set readers = '{staff}', crs = '{EPSG:25832}' where table_name = 'roads'`)
  // What a table of the name has left behind that somebody dropped.
  await owner.query(`insert into tessera.collection (schema_name, table_name, title) values ('public', 'roads_then', 'x');
    insert into tessera.moved_feature values ('public', 'roads_then', 1, '1.1', 2)`)

  assert.equal(await copy('roads', 'roads_then'), 300)

  const all = (table: string) => `select *, public.st_asewkb(geom) as shape from public.${table} order by id`
  assert.deepEqual(await rowsOf(target, all('roads_then')), await rowsOf(source, all('roads')))
  const words = (name: string) =>
    `select to_jsonb(c) - '{table_name,changed_at}'::text[] as words from tessera.collection c where table_name = '${name}'`
  assert.deepEqual(await rowsOf(target, words('roads_then')), await rowsOf(source, words('roads')))
  const [{ managed }] = (await rowsOf(
    owner,
    "select tessera.managed_table('roads_then')::text as managed",
  )) as [{ managed: string }]
  assert.equal(managed, 'roads_then')
  assert.deepEqual(
    await rowsOf(
      target,
      "select cell, id, moved_to from tessera.moved_feature where table_name = 'roads_then'",
    ),
    [{ cell: 7, id: '7.1', moved_to: 9 }],
  )
  const described = await describeTable(target, 'roads_then')
  const original = await describeTable(source, 'roads')
  const renamed = (text: string) => text.replaceAll('roads_then', 'roads')
  assert.deepEqual(JSON.parse(renamed(JSON.stringify(described))), original)
  await assert.rejects(
    owner.query(
      `update public.roads_then set geom = st_setsrid(st_makepoint(170, 80), 4326) where id like '%.7'`,
    ),
    /cell_of_geom/,
  )
  if (!hasCitus) return
  const [{ isColocated }] = (await rowsOf(
    target,
    `select count(distinct colocationid) = 1 as "isColocated" from pg_dist_partition
     where logicalrelid in ('public.roads_then'::regclass, 'tessera.moved_feature'::regclass)`,
  )) as [{ isColocated: boolean }]
  assert.ok(isColocated)
})

test('features by id and those of every node are distributed as before', { skip }, async () => {
  for (const distribution of ['id', 'reference']) {
    const definition = {
      columns: [],
      geometry: { type: null, isRequired: false },
      idType: 'bigint',
      level: null,
      distribution,
    }
    await prepare(`select tessera.create_collection('by_${distribution}', '${JSON.stringify(definition)}', '{}');
      insert into by_${distribution} (geom) values ('SRID=4326;POINT(1 2)'), (null)`)
    assert.equal(await copy(`by_${distribution}`, `again_${distribution}`), 2)
    // The ids go on where they were.
    const [{ id }] = (await rowsOf(
      owner,
      `insert into public.again_${distribution} (geom) values (null) returning id`,
    )) as [{ id: string }]
    assert.equal(id, '3')
    if (!hasCitus) continue
    const how = (name: string) =>
      `select partmethod, repmodel from pg_dist_partition where logicalrelid = 'public.${name}'::regclass`
    assert.deepEqual(
      await rowsOf(target, how(`again_${distribution}`)),
      await rowsOf(source, how(`by_${distribution}`)),
    )
  }
})

test('a table of somebody else keeps its types, keys, sequences and rights', { skip }, async () => {
  await prepare(`
    create schema "Ward";
    create table "Ward".kinds (kind text primary key);
    create table "Ward"."Poles" (
      gid serial, height numeric(6, 2) default 1.5, "a ""name""" varchar(9) collate "C" unique, tags text[],
      double numeric generated always as (height * 2) stored, secret text, kind text references "Ward".kinds,
      geom geometry(PointZ, 25832), constraint "Poles_pkey" primary key (gid), constraint high check (height > 0));
    comment on table "Ward"."Poles" is 'it''s poles';
    create unique index "Poles_lower_idx" on "Ward"."Poles" (lower("a ""name""")) where height > 2;
    create index on "Ward"."Poles" using gist (geom);
    insert into "Ward"."Poles" (height, "a ""name""", tags, geom)
      values (2.25, 'x', '{"a,b",null}', 'SRID=25832;POINT Z (1 2 3.00000000000001)'), (null, null, '{}', null);
    delete from "Ward"."Poles" where height is null;
    revoke all on "Ward"."Poles" from tessera_read, tessera_write;
    grant select (gid, geom, height) on "Ward"."Poles" to tessera_read;
    grant select, update on "Ward"."Poles" to tessera_write`)
  await owner.query('create schema "Ward"')
  const definition = await describeTable(source, 'Ward.Poles')
  assert.deepEqual(definition.others, ['the foreign key Poles_kind_fkey'])
  assert.equal(await copyTable(source, owner, definition, 'Old poles'.replace(' ', '_')), 1)

  const all = (table: string) => `select *, public.st_asewkb(geom) as shape from "Ward"."${table}"`
  assert.deepEqual(await rowsOf(target, all('Old_poles')), await rowsOf(source, all('Poles')))
  const described = await describeTable(target, 'Ward.Old_poles')
  assert.deepEqual(described.grants, definition.grants)
  assert.deepEqual(described.others, [])
  const names = ({ keys, indexes }: typeof described) => [...keys, ...indexes].map(({ name }) => name)
  assert.deepEqual(names(described).sort(), [
    'Old_poles_a "name"_key',
    'Old_poles_geom_idx',
    'Old_poles_lower_idx',
    'Old_poles_pkey',
  ])
  const [{ gid }] = (await rowsOf(
    owner,
    'insert into "Ward"."Old_poles" (height) values (3) returning gid',
  )) as [{ gid: number }]
  assert.equal(gid, 3)
  await assert.rejects(owner.query('insert into "Ward"."Old_poles" (height) values (-1)'), /high/)
})

test('what cannot be copied is refused with the reason', { skip }, async () => {
  await prepare(`create table hidden (id int primary key, geom geometry); alter table hidden enable row level security;
    create view seen as select id, geom from hidden`)
  await assert.rejects(
    describeTable(source, 'nothing'),
    /no collection nothing at that point; it has .*hidden, /,
  )
  await assert.rejects(describeTable(source, 'hidden'), /row level security/)
  await assert.rejects(describeTable(source, 'seen'), /seen is a view; restore the tables/)
  await owner.query('create table public.taken (id int); create view public.watching as select 1 as one')
  await assert.rejects(refuseTaken(owner, 'public', 'taken'), /There is a table public\.taken already/)
  await assert.rejects(refuseTaken(owner, 'public', 'watching'), /There is a view public\.watching already/)
  await refuseTaken(owner, 'public', 'free')
})

test('nothing is left of a copy that fails', { skip }, async () => {
  await prepare(`create type mood as enum ('fine'); create table moods (id int primary key, geom geometry, mood mood);
    create table doubled (id int, geom geometry); insert into doubled values (1, null), (1, null)`)
  await assert.rejects(copy('moods', 'moods_then'), /could not be created: type "public.mood" does not exist/)
  // As if the backup were damaged: the key is added after the rows.
  const definition = await describeTable(source, 'doubled')
  const keys = [{ name: 'doubled_pkey', text: 'PRIMARY KEY (id)' }]
  await assert.rejects(
    copyTable(source, owner, { ...definition, keys }, 'doubled_then'),
    /could not be created/,
  )
  for (const name of ['moods_then', 'doubled_then']) await refuseTaken(owner, 'public', name)
  await assert.rejects(copyTable(source, owner, definition, 'taken'), /Somebody has created public\.taken/)
  assert.equal(await copy('doubled', 'doubled_then'), 2)
})
