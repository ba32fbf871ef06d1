-- A PostGIS of your own with two roles for Tessera, neither of which owns anything. Run it as a superuser, in a new database:
--
--   createdb gis && psql -d gis -v ON_ERROR_STOP=1 -f gis.sql
--
-- Then set passwords (\password gis_reader), and start a gateway, from the folder of Tessera:
--
--   TESSERA_READ_URL=postgresql://gis_reader@localhost/gis TESSERA_WRITE_URL=postgresql://gis_editor@localhost/gis npm start

create extension if not exists postgis;

create role gis_reader login;
create role gis_editor login;
-- Only these two may connect, and nobody may create anything.
revoke all on database gis from public;
grant connect on database gis to gis_reader, gis_editor;
revoke create on schema public from public;

-- What the gateway serves is in a schema of its own: its collections are roads.road and roads.sign.
create schema roads;
grant usage on schema roads to gis_reader, gis_editor;

create table roads.road (
  -- The key is the id of the feature. Clients that create features leave it out.
  id bigint generated always as identity primary key,
  name text not null check (name <> ''),
  class text not null check (class in ('main', 'side', 'path')),
  width real check (width > 0),
  surveyed date,
  -- The type has the kind and the coordinate system. Features are served in longitude and latitude all the same.
  geom geometry(LineString, 25832) not null
);
-- Without it, each box reads all of the table.
create index road_geom on roads.road using gist (geom);
-- For filters such as name = 'Ring Road' and name LIKE 'Ring%'.
create index road_name on roads.road (name text_pattern_ops);

-- Comments are what the API says about the collection and its properties.
comment on table roads.road is 'Roads that the district maintains';
comment on column roads.road.width is 'Width
Of the carriageway, without pavements
unit: m';
comment on column roads.road.surveyed is 'Day of the last survey';

create table roads.sign (
  code text primary key,
  road bigint not null references roads.road,
  -- Without a declared system, the one of each row would count.
  geom geometry(Point, 4326) not null
);
create index sign_geom on roads.sign using gist (geom);
comment on table roads.sign is 'Signs, which are only read here';

-- Both roles read everything. Roads are edited, and signs are not.
grant select on all tables in schema roads to gis_reader, gis_editor;
grant insert, update, delete on roads.road to gis_editor;
-- The same for tables that this role creates later; other owners need a line of their own.
alter default privileges in schema roads grant select on tables to gis_reader, gis_editor;

insert into roads.road (name, class, width, surveyed, geom) values
  ('Ring Road', 'main', 14.5, '2026-03-01', 'SRID=25832;LINESTRING(691000 5334000, 692000 5334500, 693000 5334200)'),
  ('Mill Lane', 'side', 5, null, 'SRID=25832;LINESTRING(691500 5334300, 691600 5335100)');
insert into roads.sign values ('A1', 1, 'SRID=4326;POINT(11.58 48.14)');

-- Plans need statistics, which PostgreSQL also collects by itself after a minute.
analyze roads.road, roads.sign;
