-- Run once by a superuser in Tessera's database: the extension, and three roles of least privilege.
-- Idempotent. Passwords are not set here: the embedded server needs none, others set their own.

create extension if not exists postgis;

-- tessera_owner owns schemas and tables: migrations and imports.
-- tessera_write changes rows, tessera_read reads them; neither can create or drop anything.
do $$
declare
  name text;
begin
  foreach name in array array['tessera_owner', 'tessera_write', 'tessera_read'] loop
    if not exists (select from pg_roles where rolname = name) then
      execute format('create role %I login nosuperuser nocreatedb nocreaterole', name);
    end if;
  end loop;
end
$$;

-- The owner of the database may create schemas, and tables in public.
do $$
begin
  execute format('alter database %I owner to tessera_owner', current_database());
end
$$;

-- What the owner creates from now on, the others may use: no grant has to follow an import.
alter default privileges for role tessera_owner grant usage on schemas to tessera_read, tessera_write;
alter default privileges for role tessera_owner grant select on tables to tessera_read;
alter default privileges for role tessera_owner grant select, insert, update, delete on tables to tessera_write;
alter default privileges for role tessera_owner grant usage on sequences to tessera_write;
