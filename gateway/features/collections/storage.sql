-- How the relations of collections are stored and indexed, as one JSON array. It reads the catalog alone and opens no
-- relation, so that it waits for no lock.
-- $1: their schemas; $2: their names, in the same order; $3: their geometry columns.

with boxes as (
  select x.indrelid, x.indexrelid, x.indkey from pg_index x
  join pg_class i on i.oid = x.indexrelid
  join pg_am m on m.oid = i.relam and m.amname in ('gist', 'spgist', 'brin')
  where x.indisvalid and x.indpred is null
)

select coalesce(json_agg(json_build_object(
  'schema', n.nspname,
  'table', c.relname,
  'kind', c.relkind,
  -- -1 if nothing has ever counted them.
  'rows', c.reltuples::bigint,
  'liveRows', coalesce(s.n_live_tup, 0),
  'deadRows', coalesce(s.n_dead_tup, 0),
  'brokenIndexes', (
    select coalesce(json_agg(i.relname order by i.relname), '[]')
    from pg_index x join pg_class i on i.oid = x.indexrelid where x.indrelid = c.oid and not x.indisvalid
  ),
  -- Whether an index of all rows finds boxes of the column, and of the column as a geometry if it is a geography.
  'isIndexed', exists (
    select from boxes where boxes.indrelid = c.oid and boxes.indkey[0] = a.attnum
  ),
  'isIndexedAsGeometry', exists (
    select from boxes where boxes.indrelid = c.oid and boxes.indkey[0] = 0
  ),
  -- Whether an index finds the rows that are not in degrees.
  'isSystemIndexed', exists (
    select from pg_index x
    where x.indrelid = c.oid and x.indisvalid and x.indexprs is not null and x.indpred is not null
      and not exists (select from boxes where boxes.indexrelid = x.indexrelid)
  ),
  -- A column that could be the key: its name is usual, or it is the only one of its kind.
  'candidate', (
    select k.attname from pg_attribute k
    where k.attrelid = c.oid and k.attnum > 0 and not k.attisdropped
      and lower(k.attname) in ('id', 'gid', 'fid', 'ogc_fid', 'objectid', 'uuid')
    order by array_position(array['id', 'gid', 'fid', 'ogc_fid', 'objectid', 'uuid'], lower(k.attname)) limit 1
  )
) order by n.nspname, c.relname), '[]')
from unnest($1::text[], $2::text[], $3::text[]) wanted (schema, name, geometry)
join pg_namespace n on n.nspname = wanted.schema
join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
join pg_attribute a on a.attrelid = c.oid and a.attname = wanted.geometry
left join pg_stat_all_tables s on s.relid = c.oid
