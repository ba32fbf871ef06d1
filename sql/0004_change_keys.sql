-- What came of changes, by the key of whoever asked for them: a change that is asked for again is not made again.

CREATE TABLE "tessera"."change_key" (
	-- Beside whose features this lies.
	"cell" integer NOT NULL,
	-- SHA-256 of whoever asked, what was asked for, and the key.
	"hash" "bytea" NOT NULL,
	-- SHA-256 of body and conditions.
	"request" "bytea" NOT NULL,
	-- created, changed or removed; or claimed, which only says what the key is for.
	"outcome" text NOT NULL,
	"feature_id" text,
	"feature" text,
	"version" text,
	"expires_at" timestamp with time zone NOT NULL,
	CONSTRAINT "change_key_pkey" PRIMARY KEY("cell","hash")
);

CREATE INDEX "change_key_expires_at_idx" ON "tessera"."change_key" USING btree ("expires_at");

-- Citus only.
DO $$
BEGIN
	IF to_regproc('pg_catalog.create_distributed_table') IS NOT NULL THEN
		PERFORM create_distributed_table('tessera.change_key', 'cell', colocate_with => 'tessera.moved_feature');
	END IF;
END
$$;

-- Who serves has no use for it but to write; what others did is not for readers.
DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tessera_read') THEN
		REVOKE ALL ON "tessera"."change_key" FROM "tessera_read";
	END IF;
END
$$;
