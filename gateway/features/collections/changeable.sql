-- What the role of the write port may change, as one JSON array in a stable order, for relations that
-- catalog.sql may have found.

select coalesce(json_agg(json_build_object(
  'schema', n.nspname,
  'table', c.relname,
  -- Bits 3, 2 and 4: whether the relation itself, or a view's triggers, allow INSERT, UPDATE and DELETE.
  'canCreate', changes & 8 > 0 and has_any_column_privilege(c.oid, 'insert'),
  'canUpdate', changes & 4 > 0 and has_any_column_privilege(c.oid, 'update'),
  'canRemove', changes & 16 > 0 and has_table_privilege(c.oid, 'delete'),
  'columns', (
    select coalesce(json_agg(a.attname order by a.attnum), '[]')
    from pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      and has_column_privilege(c.oid, a.attnum, 'insert, update')
      and pg_column_is_updatable(c.oid, a.attnum, true)
  ),
  'computed', (
    select coalesce(json_agg(a.attname order by a.attnum), '[]')
    from pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      and not pg_column_is_updatable(c.oid, a.attnum, true)
  )
) order by n.nspname, c.relname), '[]')
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
cross join lateral (select pg_relation_is_updatable(c.oid, true) as changes) allowed
where c.relkind in ('r', 'v', 'p', 'f')
  and not c.relispartition
  and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and n.nspname <> 'tessera'
  and has_schema_privilege(n.oid, 'usage')
  and exists (
    select from pg_attribute a
    join pg_type t on t.oid = a.atttypid and t.typname = 'geometry'
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  )
  -- The role must be able to read a feature to change it, because a version is a hash of the complete row.
  and has_table_privilege(c.oid, 'select')
