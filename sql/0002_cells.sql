-- Spatial sharding: features that lie together are kept together.

-- The cell of a geometry: the quadkey of the centre of its box, at a level of 2^level columns and rows; -1 where
-- it is larger than a cell, -2 where there is none. gateway/features/cell.ts computes the same, and explains it.
-- For COPY and for people: insert into cities (cell, id, geom) select c, c || '.mine', geom from … tessera.cell(geom, 8) c
CREATE FUNCTION "tessera"."cell"(geom geometry, level integer) RETURNS integer
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
	cells double precision := 2 ^ level;
	west double precision := ST_XMin(geom);
	south double precision := ST_YMin(geom);
	east double precision := ST_XMax(geom);
	north double precision := ST_YMax(geom);
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
$$;

-- Where a feature is that has left the cell that its id begins with; gone when the feature is.
CREATE TABLE "tessera"."moved_feature" (
	"schema_name" text NOT NULL,
	"table_name" text NOT NULL,
	-- The cell that the id begins with, beside whose features this lies.
	"cell" integer NOT NULL,
	"id" text NOT NULL,
	"moved_to" integer NOT NULL,
	CONSTRAINT "moved_feature_pkey" PRIMARY KEY("cell","id","table_name","schema_name")
);

-- Citus only.
DO $$
DECLARE
	reader name;
BEGIN
	IF to_regproc('pg_catalog.create_distributed_table') IS NOT NULL THEN
		PERFORM create_distributed_table('tessera.moved_feature', 'cell');
		-- It has made the schema on the workers, but without what default privileges gave on the coordinator.
		FOR reader IN
			SELECT rolname FROM pg_namespace, aclexplode(nspacl) JOIN pg_roles r ON r.oid = grantee
			WHERE nspname = 'tessera' AND grantee <> nspowner AND privilege_type = 'USAGE'
		LOOP
			EXECUTE format('GRANT USAGE ON SCHEMA tessera TO %I', reader);
		END LOOP;
	END IF;
END
$$;
