-- All collections as one JSON array, in a stable order, so that an unchanged catalog gives the same text.
-- $1: schemas to serve, or an empty array for all; $2: schemas not to serve.

with

-- Tables, views, materialized views, partitioned and foreign tables with a geometry column that the role can read.
relation as (
  select
    c.oid, n.nspname, c.relname, c.relkind, c.reltuples, c.relhassubclass,
    g.attname as geometry_column, g.attnum as geometry_number, g.atttypmod as geometry_typmod,
    g.attnotnull as geometry_is_required
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  -- The first geometry column is the feature's, because a table is only one collection.
  join lateral (
    select a.attname, a.attnum, a.atttypmod, a.attnotnull
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

-- Tables whose features are sharded by cell: a check constraint derives each row's cell from its geometry. Citus
-- requires the cell in every key of such a table; without the cell, a key still identifies features.
cell_check as (
  select k.conrelid, min(substring(pg_get_constraintdef(k.oid) from 'cell = tessera\.cell\(geom, (\d+)\)'))::int as level
  from pg_constraint k
  where k.contype = 'c' and pg_get_constraintdef(k.oid) ~ 'cell = tessera\.cell\(geom, \d+\)'
  group by k.conrelid
),

-- The columns that identify a row: the primary key, else the shortest unique index without nulls.
row_key as (
  select distinct on (i.indrelid) i.indrelid, case when c.level is null then i.columns else array_remove(i.columns, 'cell') end as columns
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
  left join cell_check c on c.conrelid = i.indrelid
  -- An index with fewer names than columns has a column that may be null, or that the role must not read.
  where cardinality(i.columns) = i.indnkeyatts
  order by i.indrelid, i.indisprimary desc, i.indnkeyatts, i.columns
),

-- A view of one table has that table's key if it shows the key's columns; its rule records the origin of each
-- column. Only such views can be changed without triggers; other views may show a row twice.
view_key as (
  select v.oid, array_agg(shown.name order by shown.position) as columns, bool_or(c.level is not null) as is_over_cells
  from relation v
  join pg_rewrite rule on rule.ev_class = v.oid and rule.ev_type = '1'
  -- The dependencies of a view's rule are the tables that it reads, once per column.
  join lateral (
    select min(d.refobjid::bigint)::oid as oid
    from pg_depend d
    where d.classid = 'pg_rewrite'::regclass and d.objid = rule.oid
      and d.refclassid = 'pg_class'::regclass and d.refobjid <> v.oid
    having count(distinct d.refobjid) = 1
  ) base on true
  join pg_class parent on parent.oid = base.oid and not (parent.relkind = 'r' and parent.relhassubclass)
  join row_key k on k.indrelid = base.oid
  left join cell_check c on c.conrelid = base.oid
  join lateral (
    select a.attname::text as name, wanted.position
    from unnest(k.columns) with ordinality wanted (name, position)
    join pg_attribute b on b.attrelid = base.oid and b.attname = wanted.name
    join lateral regexp_matches(
      rule.ev_action::text,
      ':resno (\d+) :resname (?:\S+) :ressortgroupref \d+ :resorigtbl ' || base.oid || ' :resorigcol ' || b.attnum || ' :resjunk false'
    ) origin on true
    join pg_attribute a on a.attrelid = v.oid and a.attnum = origin[1]::int
      and has_column_privilege(v.oid, a.attnum, 'select')
  ) shown on true
  where v.relkind = 'v' and pg_relation_is_updatable(v.oid, false) & 4 > 0
  group by v.oid, k.columns
  having count(*) = cardinality(k.columns)
)

select coalesce(json_agg(json_build_object(
  'oid', r.oid::text,
  'schema', r.nspname,
  'table', r.relname,
  'kind', r.relkind,
  'comment', obj_description(r.oid, 'pg_class'),
  -- Rounded up to a power of ten, so that it seldom changes; 0 if it is not known.
  'estimatedRows', case when r.reltuples > 0 then (10 ^ ceil(log(r.reltuples::numeric)))::bigint else 0 end,
  'geometryColumn', r.geometry_column,
  'geometryType', postgis_typmod_type(r.geometry_typmod),
  'srid', postgis_typmod_srid(r.geometry_typmod),
  'isGeometryRequired', r.geometry_is_required,
  'isAnyGeometry', r.geometry_typmod = -1,
  'key', coalesce(k.columns, v.columns),
  'level', c.level,
  'isOverCells', coalesce(v.is_over_cells, false),
  -- A parent table also shows the rows of its children, which neither its own key nor ctid identifies.
  'hasChildren', r.relhassubclass and r.relkind = 'r',
  'columns', (
    select coalesce(json_agg(json_build_object(
      'name', a.attname,
      -- A domain is treated as its base type.
      'type', coalesce(nullif(b.typname, ''), t.typname),
      'category', t.typcategory,
      'isNullable', not a.attnotnull,
      'hasDefault', a.atthasdef or a.attidentity <> '',
      -- Only PostgreSQL computes the value; no client can set it.
      'isComputed', a.attgenerated <> '' or a.attidentity = 'a',
      'maxLength', case when coalesce(nullif(b.typname, ''), t.typname) in ('varchar', 'bpchar') and modifier > 4 then modifier - 4 end,
      -- Precision minus scale, as PostgreSQL packs numeric(precision, scale).
      'maxDigits', case when coalesce(nullif(b.typname, ''), t.typname) = 'numeric' and modifier > 4
        then ((modifier - 4) >> 16 & 65535) - ((modifier - 4 & 2047 # 1024) - 1024) end,
      'labels', (select json_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = coalesce(b.oid, t.oid)),
      -- Constraints about this column alone, its own and its domain's.
      'checks', (
        select coalesce(json_agg(pg_get_constraintdef(k.oid) order by k.oid), '[]')
        from (
          select oid from pg_constraint
          where contype = 'c' and convalidated and conrelid = r.oid and conkey = array[a.attnum]
          union all
          select oid from pg_constraint where contype = 'c' and convalidated and contypid = t.oid and t.typtype = 'd'
        ) k
      ),
      'comment', col_description(r.oid, a.attnum)
    ) order by a.attnum), '[]')
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    left join pg_type b on b.oid = nullif(t.typbasetype, 0)
    cross join lateral (select case when b.oid is null then a.atttypmod else t.typtypmod end as modifier) m
    where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
      and has_column_privilege(r.oid, a.attnum, 'select')
      and t.typname not in ('geometry', 'geography', 'raster', 'box2d', 'box3d')
  ),
  -- Columns that are not shown but are part of the row, except those that PostgreSQL computes.
  'hidden', (
    select coalesce(json_agg(a.attname order by a.attnum), '[]')
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
      and a.attnum <> r.geometry_number and a.attgenerated = ''
      and not (has_column_privilege(r.oid, a.attnum, 'select')
        and t.typname not in ('geometry', 'geography', 'raster', 'box2d', 'box3d'))
  )
) order by r.nspname, r.relname), '[]') as collections,
  -- Whether Tessera's own table, with metadata of collections, can be read.
  coalesce(has_table_privilege(to_regclass('tessera.collection'), 'select'), false) as is_registered,
  -- Whether Citus is installed, so that tables may be distributed over nodes.
  to_regclass('pg_catalog.pg_dist_partition') is not null as is_citus
from relation r
left join row_key k on k.indrelid = r.oid
left join view_key v on v.oid = r.oid
left join cell_check c on c.conrelid = r.oid
