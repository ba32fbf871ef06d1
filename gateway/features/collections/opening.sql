-- Begins catalog.sql and changeable.sql: what both have to know before they look at relations.

with recursive

-- Relations that somebody locks, or waits to lock, against readers. Functions that open a relation would wait for that
-- lock, and with them all other collections.
locked as materialized (
  select distinct l.relation as oid
  from pg_locks l
  where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock'
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
),

-- Each domain, and for a domain over a domain each step down; `modifier` is that of the last step.
domain_step as (
  select t.oid, t.typbasetype as base, t.typtypmod as modifier from pg_type t where t.typtype = 'd'
  union all
  select s.oid, t.typbasetype, t.typtypmod from domain_step s join pg_type t on t.oid = s.base and t.typtype = 'd'
)
