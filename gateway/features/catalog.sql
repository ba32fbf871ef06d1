-- The collections there are: one JSON array, in a stable order, so that an unchanged catalog is the same text.
-- $1: schemas to serve, or an empty array for all; $2: schemas not to serve.

with

-- Tables, views, materialized, partitioned and foreign tables with a geometry column that the role can read.
relation as (
  select
    c.oid, n.nspname, c.relname, c.relkind, c.reltuples, c.relhassubclass,
    g.attname as geometry_column, g.attnum as geometry_number, g.atttypmod as geometry_typmod
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  -- The first geometry column is the feature's; a table can have but one collection.
  join lateral (
    select a.attname, a.attnum, a.atttypmod
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid and t.typname = 'geometry'
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      and has_column_privilege(c.oid, a.attnum, 'select')
    order by a.attnum
    limit 1
  ) g on true
  where c.relkind in ('r', 'v', 'm', 'p', 'f')
    -- A partition is read through its parent.
    and not c.relispartition
    and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and n.nspname <> 'tessera'
    and (cardinality($1::text[]) = 0 or n.nspname = any($1::text[]))
    and n.nspname <> all($2::text[])
    and has_schema_privilege(n.oid, 'usage')
    -- Extensions bring tables of their own, such as those of a geocoder.
    and not exists (
      select from pg_depend d
      where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
    )
),

-- What tells rows apart: the primary key, else a unique index without nulls; the shortest wins.
row_key as (
  select distinct on (i.indrelid) i.indrelid, i.columns
  from (
    select
      x.indrelid, x.indisprimary,
      array(
        select a.attname::text
        from unnest(x.indkey::int2[]) with ordinality k (attnum, position)
        join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.attnum and a.attnotnull
          and has_column_privilege(x.indrelid, a.attnum, 'select')
        where k.position <= x.indnkeyatts
        order by k.position
      ) as columns,
      x.indnkeyatts
    from pg_index x
    where x.indisunique and x.indisvalid and x.indimmediate and x.indpred is null and x.indexprs is null
  ) i
  -- Fewer names than columns: one may be null, or must not be read.
  where cardinality(i.columns) = i.indnkeyatts
  order by i.indrelid, i.indisprimary desc, i.indnkeyatts, i.columns
)

select coalesce(json_agg(json_build_object(
  'schema', r.nspname,
  'table', r.relname,
  'kind', r.relkind,
  'comment', obj_description(r.oid, 'pg_class'),
  -- Rounded up to a power of ten, so that it changes seldom; 0 where nothing is known.
  'estimatedRows', case when r.reltuples > 0 then (10 ^ ceil(log(r.reltuples::numeric)))::bigint else 0 end,
  'geometryColumn', r.geometry_column,
  'geometryType', postgis_typmod_type(r.geometry_typmod),
  'srid', postgis_typmod_srid(r.geometry_typmod),
  'key', k.columns,
  -- A parent of others shows their rows, which its own key and places do not tell apart.
  'hasChildren', r.relhassubclass and r.relkind = 'r',
  'columns', (
    select coalesce(json_agg(json_build_object(
      'name', a.attname,
      -- A domain is treated as what it is made of.
      'type', coalesce(nullif(b.typname, ''), t.typname),
      'category', t.typcategory,
      'isNullable', not a.attnotnull,
      'comment', col_description(r.oid, a.attnum)
    ) order by a.attnum), '[]')
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    left join pg_type b on b.oid = nullif(t.typbasetype, 0)
    where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
      and has_column_privilege(r.oid, a.attnum, 'select')
      and t.typname not in ('geometry', 'geography', 'raster', 'box2d', 'box3d')
  )
) order by r.nspname, r.relname), '[]') as collections,
  -- Whether there is a table of Tessera's own that says more of them.
  coalesce(has_table_privilege(to_regclass('tessera.collection'), 'select'), false) as is_registered
from relation r
left join row_key k on k.indrelid = r.oid
