-- The role that changes features reads the metadata of collections and the history of the schema, and changes neither.
-- Default privileges (bootstrap/roles.sql) had given it more.
DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tessera_write') THEN
		REVOKE INSERT, UPDATE, DELETE ON "tessera"."collection", "tessera"."migration" FROM "tessera_write";
	END IF;
END
$$;
