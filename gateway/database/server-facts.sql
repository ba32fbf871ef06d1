-- What a role sees of the server that it has reached, and of itself there, as one JSON object. Nothing here needs a grant,
-- and without Citus nothing differs, so that it runs on each node of Citus, too.

with own as (
  -- Tables and views that are neither the system's nor an extension's, with what the role may do to them besides reading.
  select format('%I.%I', n.nspname, c.relname) as name,
    pg_has_role(c.relowner, 'member') as is_owned,
    has_table_privilege(c.oid, 'insert, update, delete') or has_any_column_privilege(c.oid, 'insert, update')
      as is_changeable,
    has_table_privilege(c.oid, 'truncate') as is_truncatable
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
    and not exists (
      select from pg_depend d
      where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
    )
)

select json_build_object(
  'version', current_setting('server_version'),
  'versionNumber', current_setting('server_version_num')::int,
  'clockMs', extract(epoch from clock_timestamp()) * 1000,
  'isSecondary', pg_is_in_recovery(),
  'settings', (
    select json_object_agg(name, setting) from pg_settings
    where name in ('autovacuum', 'fsync', 'full_page_writes', 'max_connections', 'max_prepared_transactions',
      'reserved_connections', 'superuser_reserved_connections', 'wal_level')
  ),
  -- Sessions of the server that have a database: those of all roles are visible, though not what they do.
  'sessions', (select count(*) from pg_stat_activity where datid is not null),
  'idleInTransaction', (
    select count(*) from pg_stat_activity
    where state like 'idle in transaction%' and state_change < now() - interval '5 minutes'
  ),
  -- Changes that were prepared and neither committed nor rolled back: they hold locks, and nothing is cleaned up.
  'prepared', (select count(*) from pg_prepared_xacts where prepared < now() - interval '10 minutes'),
  'isReplayPaused', case when pg_is_in_recovery() then pg_is_wal_replay_paused() else false end,
  -- Log that a slot keeps for a reader that is away. On a secondary, slots wait for a change of roles.
  'idleSlots', (
    select coalesce(json_agg(json_build_object('name', slot_name,
      'bytes', pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) order by slot_name), '[]')
    from pg_replication_slots
    where not pg_is_in_recovery() and not active and restart_lsn is not null
  ),
  -- Whether the write-ahead log is archived, and when that succeeded and failed at last.
  'archive', (
    select json_build_object('mode', current_setting('archive_mode'),
      'succeededMs', extract(epoch from last_archived_time) * 1000,
      'failedMs', extract(epoch from last_failed_time) * 1000)
    from pg_stat_archiver
  ),
  'oldestTransaction', (select max(age(datfrozenxid)) from pg_database),
  'database', (
    select json_build_object(
      'name', d.datname,
      'encoding', pg_encoding_to_char(d.encoding),
      'connectionLimit', d.datconnlimit,
      -- Version of the rules by which texts were sorted when the database was made, and of those that sort them now.
      'collation', d.datcollversion,
      'actualCollation', pg_database_collation_actual_version(d.oid)
    )
    from pg_database d where d.datname = current_database()
  ),
  -- Null as the available version means that the files of the extension are gone from this server.
  'extensions', (
    select coalesce(json_agg(json_build_object('name', e.extname, 'version', e.extversion,
      'available', a.default_version) order by e.extname), '[]')
    from pg_extension e left join pg_available_extensions a on a.name = e.extname
  ),
  'role', (
    select json_build_object(
      'name', r.rolname,
      'isSuperuser', r.rolsuper,
      'canCreateRoles', r.rolcreaterole,
      'canCreateDatabases', r.rolcreatedb,
      'bypassesRowSecurity', r.rolbypassrls,
      'canReplicate', r.rolreplication,
      'connectionLimit', r.rolconnlimit,
      'passwordEndsMs', case when isfinite(r.rolvaliduntil) then extract(epoch from r.rolvaliduntil) * 1000 end,
      -- Roles of PostgreSQL's own that reach beyond a database, or beyond the tables that were granted.
      'powers', (
        select coalesce(json_agg(p.rolname order by p.rolname), '[]') from pg_roles p
        where p.rolname in ('pg_execute_server_program', 'pg_read_all_data', 'pg_read_server_files',
          'pg_write_all_data', 'pg_write_server_files') and pg_has_role(r.oid, p.oid, 'member')
      ),
      'canCreateSchemas', has_database_privilege(current_database(), 'create'),
      'creatable', (
        select coalesce(json_agg(n.nspname order by n.nspname), '[]') from pg_namespace n
        where n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and has_schema_privilege(n.oid, 'create')
      ),
      'owned', (select json_build_object('count', count(*), 'some', (array_agg(name order by name))[:3])
        from own where is_owned),
      'changeable', (select json_build_object('count', count(*), 'some', (array_agg(name order by name))[:3])
        from own where is_changeable),
      'truncatable', (select json_build_object('count', count(*), 'some', (array_agg(name order by name))[:3])
        from own where is_truncatable)
    )
    from pg_roles r where r.rolname = current_user
  )
)::text
