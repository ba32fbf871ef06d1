-- Marks the tables that imports have created. Until now only tessera.collection knew them, by their names: a table that
-- took the name of one that was dropped counted as Tessera's own, and --replace would have dropped it.

-- The text is MANAGED_COMMENT of gateway/features/collections/managed.ts.
DO $$
DECLARE
	managed record;
BEGIN
	FOR managed IN
		SELECT c.oid::regclass AS name
		FROM "tessera"."collection" m
		JOIN pg_namespace n ON n.nspname = m.schema_name
		JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = m.table_name
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'updated_at' AND NOT a.attisdropped
		-- The owner of a table alone may comment on it; imports have created tables of the role that migrates.
		WHERE m.is_managed AND c.relkind IN ('r', 'p') AND pg_has_role(c.relowner, 'usage')
	LOOP
		EXECUTE format(
			'COMMENT ON COLUMN %s.updated_at IS %L',
			managed.name,
			'Time of the last change through Tessera, which has created this table.'
		);
	END LOOP;
END
$$;
