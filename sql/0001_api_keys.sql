-- Who may change features. Of a key's secret only its hash is here.
CREATE TABLE "tessera"."api_key" (
	-- The part of a key that may be shown.
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"secret_hash" "bytea" NOT NULL,
	"can_write" boolean DEFAULT true NOT NULL,
	-- Ids of the collections that it is for; null for all.
	"collections" text[],
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"revoked_at" timestamp with time zone
);

-- What the owner creates, the others may use (bootstrap/roles.sql); but who writes features must not make
-- keys, and who reads them need not know of any.
DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tessera_read') THEN
		REVOKE ALL ON "tessera"."api_key" FROM "tessera_read";
	END IF;
	IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tessera_write') THEN
		REVOKE ALL ON "tessera"."api_key" FROM "tessera_write";
		GRANT SELECT ON "tessera"."api_key" TO "tessera_write";
	END IF;
END
$$;
