-- All collections as one JSON array, in a stable order, so that an unchanged catalog gives the same text.
-- $1: schemas to serve, or an empty array for all; $2: schemas not to serve; $3: how comments of published functions begin.
-- It goes on where opening.sql ends.

-- The schema of PostGIS, which need not be in the search path.
, postgis as (
  select n.oid, n.nspname, has_schema_privilege(n.oid, 'usage') as is_usable
  from pg_extension e
  join pg_namespace n on n.oid = e.extnamespace
  where e.extname = 'postgis'
),

-- Each domain with the type that its values have.
domain_base as (
  select s.oid, s.base, s.modifier from domain_step s join pg_type t on t.oid = s.base and t.typtype <> 'd'
),

-- Tables, views, materialized views, partitioned and foreign tables with a geometry column that the role can read.
relation as materialized (
  select
    c.oid, n.nspname, c.relname, c.relkind, c.reltuples, c.relhassubclass,
    exists (select from locked where locked.oid = c.oid) as is_locked,
    g.attname as geometry_column, g.attnum as geometry_number, g.attnotnull as geometry_is_required,
    g.typname as geometry_kind, g.is_domain as geometry_is_domain, g.modifier as geometry_modifier,
    m.type as geometry_type, m.srid as geometry_srid
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  -- The first geometry column is the feature's, because a table is only one collection; without one, the first
  -- geography column is.
  join lateral (
    select a.attname, a.attnum, a.attnotnull, t.typname, d.oid is not null as is_domain,
      case when d.oid is null then a.atttypmod else d.modifier end as modifier
    from pg_attribute a
    left join domain_base d on d.oid = a.atttypid
    join pg_type t on t.oid = coalesce(d.base, a.atttypid) and t.typname in ('geometry', 'geography')
    join postgis on postgis.oid = t.typnamespace and postgis.is_usable
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      and has_column_privilege(c.oid, a.attnum, 'select')
    order by t.typname = 'geography', a.attnum
    limit 1
  ) g on true
  -- PostGIS packs SRID, type, Z and M into one number. It is unpacked here, because PostGIS' own functions for that are
  -- not found if its schema is not in the search path.
  cross join lateral (
    select
      coalesce((array['Point', 'LineString', 'Polygon', 'MultiPoint', 'MultiLineString', 'MultiPolygon',
        'GeometryCollection', 'CircularString', 'CompoundCurve', 'CurvePolygon', 'MultiCurve', 'MultiSurface',
        'PolyhedralSurface', 'Triangle', 'Tin'])[(g.modifier & 252) >> 2], 'Geometry')
        || case when g.modifier & 2 > 0 then 'Z' else '' end || case when g.modifier & 1 > 0 then 'M' else '' end,
      nullif((g.modifier & 268435200) >> 8, 0)
    where g.modifier <> -1
    union all
    select 'Geometry', null where g.modifier = -1
  ) m (type, srid)
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
  from pg_proc p
  join pg_namespace n on n.oid = p.pronamespace and n.nspname = 'tessera'
  join pg_depend d on d.refclassid = 'pg_proc'::regclass and d.refobjid = p.oid and d.classid = 'pg_constraint'::regclass
  join pg_constraint k on k.oid = d.objid and k.contype = 'c'
  where p.proname = 'cell' and k.conrelid not in (select oid from locked)
  group by k.conrelid
),

-- The SRID that a check constraint declares for a column whose type does not, as older versions of PostGIS created them.
srid_check as (
  select r.oid, min(declared[2]::int) as srid
  from relation r
  join pg_constraint k on k.conrelid = r.oid and k.contype = 'c' and k.convalidated and r.geometry_number = any(k.conkey)
  cross join lateral regexp_match(
    case when not r.is_locked then pg_get_constraintdef(k.oid) end,
    '^CHECK \(\((?:[^(]+\.)?st_srid\((.+)\) = (\d{4,6})\)\)$'
  ) declared
  where r.geometry_srid is null and declared[1] = quote_ident(r.geometry_column)
  group by r.oid
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
  where v.relkind = 'v' and case when v.is_locked then false else pg_relation_is_updatable(v.oid, false) & 4 > 0 end
  group by v.oid, k.columns
  having count(*) = cardinality(k.columns)
),

-- The relations that the rows of each one come from: those that a view reads, the partitions and the children of a table.
source as (
  select r.oid, r.oid as source from relation r
  union
  select s.oid, further.oid
  from source s
  join pg_class c on c.oid = s.source
  cross join lateral (
    select i.inhrelid as oid from pg_inherits i where i.inhparent = s.source
    union all
    select d.refobjid
    from pg_rewrite rule
    join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = rule.oid
      and d.refclassid = 'pg_class'::regclass and d.refobjid <> s.source
    where c.relkind = 'v' and rule.ev_class = s.source and rule.ev_type = '1'
  ) further
),

-- Relations whose rows can change without a change of stored rows, or differ between roles. Dependencies do not name
-- PostgreSQL's own functions, so the rule of a view is searched for all that it calls, for CURRENT_DATE and its kin, for
-- samples, and for texts that become times, such as 'now'.
unsteady as (
  select s.oid
  from source s
  join pg_class c on c.oid = s.source
  where c.relkind = 'f' or c.relrowsecurity
    or c.relkind = 'v' and exists (
      select from pg_rewrite rule where rule.ev_class = c.oid and rule.ev_type = '1' and (
        rule.ev_action::text ~ '\{(SQLVALUEFUNCTION|TABLESAMPLECLAUSE|NEXTVALUEEXPR|COERCEVIAIO :arg .*? :resulttype (1082|1083|1114|1184|1266) )'
        or exists (
          select from regexp_matches(rule.ev_action::text, ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\d+)', 'g') called (ids)
          left join pg_proc p on p.oid = called.ids[1]::oid
          where p.provolatile is distinct from 'i'
        )
      )
    )
),

-- Types by their names; those of other schemas than PostgreSQL's and PostGIS' have the schema in their name.
shown_type as not materialized (
  select t.oid, case when n.nspname = 'pg_catalog' or postgis.oid is not null then t.typname::text
    else n.nspname || '.' || t.typname end as name
  from pg_type t
  join pg_namespace n on n.oid = t.typnamespace
  left join postgis on postgis.oid = n.oid and t.typname in ('geometry', 'geography')
),

metadata as (
  select c.oid, c.relnamespace from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = 'tessera' and c.relname = 'collection'
)

select coalesce(json_agg(json_build_object(
  'oid', r.oid::text,
  'schema', r.nspname,
  'table', r.relname,
  'kind', r.relkind,
  'comment', obj_description(r.oid, 'pg_class'),
  -- Rounded up to a power of ten, so that it seldom changes; 0 if it is not known.
  'estimatedRows', case when r.reltuples > 0 then (10 ^ ceil(log(r.reltuples::numeric)))::bigint else 0 end,
  'isLocked', r.is_locked,
  'geometryColumn', r.geometry_column,
  'geometryType', r.geometry_type,
  'srid', coalesce(r.geometry_srid, checked.srid),
  -- The type as it was declared, if it restricts the SRID. A cast to it fails once the column has another one.
  'geometryCast', case when r.geometry_srid is not null and not r.geometry_is_domain
    then format('%s(%s,%s)', r.geometry_kind, r.geometry_type, r.geometry_srid) end,
  'isGeography', r.geometry_kind = 'geography',
  'isGeometryDomain', r.geometry_is_domain,
  'isGeometryRequired', r.geometry_is_required,
  -- Whether an index of all rows finds bounding boxes on the ground, by position as well.
  'isGeometryIndexed', exists (
    select from pg_index x
    join pg_opclass o on o.oid = x.indclass[0] and o.opcname = 'gist_geometry_ops_2d'
    where x.indrelid = r.oid and x.indkey[0] = r.geometry_number and x.indisvalid and x.indpred is null
  ),
  -- The limits of indexes that find boxes of a sample alone: of the features whose key has a smaller hash.
  'sampleLimits', (
    select coalesce(json_agg(predicate.parts[2]::int order by predicate.parts[2]::int), '[]')
    from pg_index x
    join pg_opclass o on o.oid = x.indclass[0] and o.opcname = 'gist_geometry_ops_2d'
    cross join lateral (
      select regexp_match(
        case when not r.is_locked then pg_get_expr(x.indpred, x.indrelid) end,
        '^\(hash_record\(ROW\((.+)\)\) < ''(-?\d+)''::integer\)$'
      )
    ) predicate (parts)
    where x.indrelid = r.oid and x.indkey[0] = r.geometry_number and x.indisvalid
      and predicate.parts[1] = (
        select string_agg(quote_ident(named.name), ', ' order by named.position)
        from unnest(k.columns) with ordinality named (name, position)
      )
  ),
  'isAnyGeometry', r.geometry_modifier = -1,
  'key', coalesce(k.columns, v.columns),
  'level', c.level,
  'isOverCells', coalesce(v.is_over_cells, false),
  -- A parent table also shows the rows of its children, which neither its own key nor ctid identifies.
  'hasChildren', r.relhassubclass and r.relkind = 'r',
  -- Rights on single columns do not include ctid.
  'isReadableAsWhole', has_table_privilege(r.oid, 'select'),
  -- What its rows come from changes with stored rows alone, and everybody sees the same of them.
  'isSteady', not exists (select from unsteady u where u.oid = r.oid),
  -- A trigger that runs before each insert may set the columns that a client leaves out.
  'hasInsertTrigger', exists (
    select from pg_trigger g
    where g.tgrelid = r.oid and not g.tgisinternal and g.tgenabled in ('O', 'A') and g.tgtype & 7 = 7
  ),
  'columns', (
    select coalesce(json_agg(json_build_object(
      'name', a.attname,
      -- A domain is treated as its base type.
      'type', t.typname,
      'category', t.typcategory,
      -- Whether a statement can compare the values with a text that stands for one. It cannot for lists and rows, and
      -- for types whose order has operators of other names, such as hstore's.
      'isComparable', t.typcategory not in ('A', 'C', 'P') and (t.typcategory <> 'U' or exists (
        select from pg_operator o where o.oprname = '>' and o.oprleft = t.oid and o.oprright = t.oid
      )),
      -- Whether the values, or the elements of lists, have members of their own.
      'isComposite', coalesce(e.typtype, t.typtype) = 'c',
      'isNullable', not a.attnotnull,
      'hasDefault', a.atthasdef or a.attidentity <> '' or own.typdefault is not null,
      -- Only PostgreSQL computes the value; no client can set it.
      'isComputed', a.attgenerated <> '' or a.attidentity = 'a',
      'maxLength', case when t.typname in ('varchar', 'bpchar') and m.modifier > 4 then m.modifier - 4 end,
      -- Precision minus scale, as PostgreSQL packs numeric(precision, scale).
      'maxDigits', case when t.typname = 'numeric' and m.modifier > 4
        then ((m.modifier - 4) >> 16 & 65535) - ((m.modifier - 4 & 2047 # 1024) - 1024) end,
      'labels', (select json_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid),
      -- Constraints about this column alone, its own and those of its domains.
      'checks', (
        select coalesce(json_agg(pg_get_constraintdef(k.oid) order by k.oid), '[]')
        from (
          select oid from pg_constraint
          where contype = 'c' and convalidated and conrelid = r.oid and conkey = array[a.attnum] and not r.is_locked
          union all
          select oid from pg_constraint
          where contype = 'c' and convalidated and contypid = own.oid and own.typtype = 'd'
          union all
          select k.oid from domain_step s
          join pg_constraint k on k.contype = 'c' and k.convalidated and k.contypid = s.base
          where s.oid = own.oid
        ) k
      ),
      'comment', col_description(r.oid, a.attnum)
    ) order by a.attnum), '[]')
    from pg_attribute a
    join pg_type own on own.oid = a.atttypid
    left join domain_base d on d.oid = a.atttypid
    join pg_type t on t.oid = coalesce(d.base, a.atttypid)
    -- The elements of an array.
    left join pg_type e on e.oid = nullif(t.typelem, 0)
    cross join lateral (select case when d.oid is null then a.atttypmod else d.modifier end as modifier) m
    where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
      and has_column_privilege(r.oid, a.attnum, 'select')
      and t.typname not in ('geometry', 'geography', 'raster', 'box2d', 'box3d')
  ),
  -- Columns that are not shown but are part of the row, except those that PostgreSQL computes.
  'hidden', (
    select coalesce(json_agg(a.attname order by a.attnum), '[]')
    from pg_attribute a
    left join domain_base d on d.oid = a.atttypid
    join pg_type t on t.oid = coalesce(d.base, a.atttypid)
    where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
      and a.attnum <> r.geometry_number and a.attgenerated = ''
      and not (has_column_privilege(r.oid, a.attnum, 'select')
        and t.typname not in ('geometry', 'geography', 'raster', 'box2d', 'box3d'))
  )
) order by r.nspname, r.relname), '[]') as collections,
  -- Whether Tessera's own table, with metadata of collections, can be read.
  (select has_schema_privilege(n.oid, 'usage') and has_table_privilege(m.oid, 'select') from metadata m join pg_namespace n on n.oid = m.relnamespace)
    as is_registered,
  -- What the role lacks, each with what is missing without it.
  (select coalesce(json_agg(json_build_object('role', current_user, 'grant', missing, 'effect', effect) order by missing), '[]') from (
    select format('USAGE on schema %I', p.nspname), 'no collection can be read' from postgis p where not p.is_usable
    union all
    select 'the extension postgis', 'there are no collections' where not exists (select from postgis)
    union all
    select 'USAGE on schema tessera', 'collections have no titles and descriptions, and no rules about readers'
    from pg_namespace n where n.nspname = 'tessera' and not has_schema_privilege(n.oid, 'usage')
    union all
    select 'SELECT on tessera.collection', 'collections have no titles and descriptions, and no rules about readers'
    from metadata m where not has_table_privilege(m.oid, 'select')
  ) lack (missing, effect)) as lacks,
  -- Whether Citus is installed, so that tables may be distributed over nodes.
  to_regclass('pg_catalog.pg_dist_partition') is not null as is_citus,
  -- Functions that their owner has marked, whether or not filters can call them.
  (select coalesce(json_agg(json_build_object(
    'schema', n.nspname,
    'name', p.proname,
    'comment', d.description,
    'isPlain', p.prokind = 'f' and not p.proretset and p.provariadic = 0 and p.proargmodes is null,
    'isStable', p.provolatile <> 'v',
    'isImmutable', p.provolatile = 'i',
    'isAllowed', has_schema_privilege(n.oid, 'usage') and has_function_privilege(p.oid, 'execute'),
    'arguments', (
      select coalesce(json_agg(json_build_object('name', p.proargnames[a.position], 'type', shown.name) order by a.position), '[]')
      from unnest(p.proargtypes::oid[]) with ordinality a (type, position)
      join shown_type shown on shown.oid = a.type
    ),
    'returns', (select shown.name from shown_type shown where shown.oid = p.prorettype)
  ) order by n.nspname, p.proname, p.oid), '[]')
  from pg_description d
  join pg_proc p on p.oid = d.objoid
  join pg_namespace n on n.oid = p.pronamespace
  -- Objects of PostgreSQL itself, nearly all of those with a comment, have lower oids.
  where d.objoid >= 16384 and d.classoid = 'pg_proc'::regclass and d.objsubid = 0 and starts_with(d.description, $3)
    and d.description ~ ('^' || $3 || '($|\s)')
    and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and n.nspname <> 'tessera'
    and (cardinality($1::text[]) = 0 or n.nspname = any($1::text[]))
    and n.nspname <> all($2::text[])) as routines
from relation r
left join row_key k on k.indrelid = r.oid
left join view_key v on v.oid = r.oid
left join cell_check c on c.conrelid = r.oid
left join srid_check checked on checked.oid = r.oid
