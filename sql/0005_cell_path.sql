-- Logical replication, by which Citus moves shards, and restored dumps evaluate checks without a search path: the cell
-- of a geometry names the functions that it calls with the schema of PostGIS. Otherwise it is that of 0002_cells.sql.

DO $migration$
BEGIN
	EXECUTE format($definition$
CREATE OR REPLACE FUNCTION "tessera"."cell"(geom %1$I.geometry, level integer) RETURNS integer
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
	cells double precision := 2 ^ level;
	west double precision := %1$I.ST_XMin(geom);
	south double precision := %1$I.ST_YMin(geom);
	east double precision := %1$I.ST_XMax(geom);
	north double precision := %1$I.ST_YMax(geom);
	across integer;
	down integer;
BEGIN
	IF west IS NULL THEN
		RETURN -2;
	END IF;
	IF greatest((east - west) / 360, (north - south) / 180) * cells > 1 THEN
		RETURN -1;
	END IF;
	across := least(greatest(floor(((west + east) / 2 + 180) / 360 * cells), 0), cells - 1);
	down := least(greatest(floor((90 - (south + north) / 2) / 180 * cells), 0), cells - 1);
	-- A zero before each bit; then the bits of both by turns.
	across := (across | (across << 8)) & 16711935;
	across := (across | (across << 4)) & 252645135;
	across := (across | (across << 2)) & 858993459;
	across := (across | (across << 1)) & 1431655765;
	down := (down | (down << 8)) & 16711935;
	down := (down | (down << 4)) & 252645135;
	down := (down | (down << 2)) & 858993459;
	down := (down | (down << 1)) & 1431655765;
	RETURN across | (down << 1);
END
$$
$definition$, (SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'postgis'));
END
$migration$;
