-- What consistency tokens are signed with: the same for all gateways of this database, and of no other.
CREATE TABLE "tessera"."token_key" (
	"key" "bytea" NOT NULL
);

-- Two random UUIDs: 244 bits of PostgreSQL's strong random numbers.
INSERT INTO "tessera"."token_key" ("key")
VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

-- Who serves reads it, and nobody changes it.
DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tessera_write') THEN
		REVOKE ALL ON "tessera"."token_key" FROM "tessera_write";
		GRANT SELECT ON "tessera"."token_key" TO "tessera_write";
	END IF;
END
$$;
