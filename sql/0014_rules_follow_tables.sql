-- Rules belong to a table also under another name: one that is renamed must not become public.

ALTER TABLE "tessera"."collection"
	-- The table for which something was set with `tessera collections`. It is stored as its name in a dump.
	ADD COLUMN "relation" regclass;

UPDATE "tessera"."collection" SET "relation" = to_regclass(format('%I.%I', "schema_name", "table_name"));
