-- What the role of the write port may change, as one JSON array in a stable order, for relations that
-- catalog.sql may have found. It goes on where opening.sql ends.

select coalesce(json_agg(json_build_object(
  'schema', n.nspname,
  'table', c.relname,
  -- Then nothing else is known.
  'isLocked', is_locked,
  -- Bits 3, 2 and 4: whether the relation itself, or a view's triggers, allow INSERT, UPDATE and DELETE.
  'canCreate', changes & 8 > 0 and has_any_column_privilege(c.oid, 'insert'),
  'canUpdate', changes & 4 > 0 and has_any_column_privilege(c.oid, 'update'),
  'canRemove', changes & 16 > 0 and has_table_privilege(c.oid, 'delete'),
  'columns', (
    select coalesce(json_agg(a.attname order by a.attnum), '[]')
    from pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      and has_column_privilege(c.oid, a.attnum, 'insert, update')
      and case when is_locked then false else pg_column_is_updatable(c.oid, a.attnum, true) end
  ),
  'computed', (
    select coalesce(json_agg(a.attname order by a.attnum), '[]')
    from pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      and case when is_locked then false else not pg_column_is_updatable(c.oid, a.attnum, true) end
  )
) order by n.nspname, c.relname), '[]')
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
cross join lateral (select c.oid in (select oid from locked) as is_locked) found
cross join lateral (
  select case when is_locked then 0 else pg_relation_is_updatable(c.oid, true) end as changes
) allowed
where c.relkind in ('r', 'v', 'p', 'f')
  and not c.relispartition
  and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and n.nspname <> 'tessera'
  and has_schema_privilege(n.oid, 'usage')
  and exists (
    select from pg_attribute a
    left join domain_step d on d.oid = a.atttypid
    join pg_type t on t.oid in (d.base, a.atttypid) and t.typname in ('geometry', 'geography')
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  )
  -- The role must be able to read a feature to change it, because a version is a hash of the complete row.
  and has_table_privilege(c.oid, 'select')
