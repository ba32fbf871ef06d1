-- Keys that give keys and set rules, keys with roles that rules name, and what gateways may call for both.

ALTER TABLE "tessera"."api_key"
	-- True if it may also give keys and set rules, of no more than it may itself.
	ADD COLUMN "can_grant" boolean DEFAULT false NOT NULL,
	-- Roles that rules name; null for a key that has rights of its own, whatever the rules are.
	ADD COLUMN "roles" text[],
	-- How long the key was meant to be valid when it was created, which a rotation does not change; null for ever.
	ADD COLUMN "lifetime" interval,
	-- The caller that created it through a gateway; null if it was created with the command.
	ADD COLUMN "created_by" text,
	-- About when it was last used.
	ADD COLUMN "last_used_at" timestamp with time zone;

UPDATE "tessera"."api_key" SET "lifetime" = "expires_at" - "created_at";

-- What `tessera keys` and `tessera collections` call as the owner, and gateways for clients who may. Gateways decide who may.
-- They run as the owner, whose rights a gateway does not have, and do no more than their names say.

CREATE FUNCTION "tessera"."texts_in"("list" jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE WHEN jsonb_typeof("list") = 'array' THEN ARRAY(SELECT jsonb_array_elements_text("list")) END
$$;

-- The key has: id, name, secretHash (hexadecimal), canWrite, canManage, canGrant, collections, roles, expiresAt and createdBy.
CREATE FUNCTION "tessera"."create_key"("key" jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	INSERT INTO tessera.api_key (
		id, name, secret_hash, can_write, can_manage, can_grant, collections, roles, expires_at, lifetime, created_by
	)
	SELECT
		"key" ->> 'id', "key" ->> 'name', decode("key" ->> 'secretHash', 'hex'), ("key" ->> 'canWrite')::boolean,
		("key" ->> 'canManage')::boolean, ("key" ->> 'canGrant')::boolean, tessera.texts_in("key" -> 'collections'),
		tessera.texts_in("key" -> 'roles'), ("key" ->> 'expiresAt')::timestamptz,
		("key" ->> 'expiresAt')::timestamptz - now(), "key" ->> 'createdBy'
$$;

-- Creates a key that may do the same as another one, and lets that one expire. Returns false if that one is not valid any more.
-- The successor has: id, secretHash, createdBy, expiresAt, or null for as long as the old one was meant to live, and latest, the
-- time after which it is not valid in any case, or null.
CREATE FUNCTION "tessera"."rotate_key"("old" text, "until" timestamptz, "successor" jsonb) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	WITH "former" AS (
		SELECT * FROM tessera.api_key
		WHERE id = "old" AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) FOR UPDATE
	), "expiring" AS (
		UPDATE tessera.api_key k SET expires_at = least(k.expires_at, "until") FROM "former" f WHERE k.id = f.id
	), "created" AS (
		INSERT INTO tessera.api_key (
			id, name, secret_hash, can_write, can_manage, can_grant, collections, roles, expires_at, lifetime, created_by
		)
		SELECT
			"successor" ->> 'id', f.name, decode("successor" ->> 'secretHash', 'hex'), f.can_write, f.can_manage, f.can_grant,
			f.collections, f.roles,
			least(
				coalesce(("successor" ->> 'expiresAt')::timestamptz, now() + f.lifetime), ("successor" ->> 'latest')::timestamptz
			),
			coalesce(("successor" ->> 'expiresAt')::timestamptz - now(), f.lifetime), "successor" ->> 'createdBy'
		FROM "former" f
		RETURNING true
	)
	SELECT EXISTS (SELECT FROM "created")
$$;

-- Returns false if there is no such key, or it has been revoked before.
CREATE FUNCTION "tessera"."revoke_key"("revoked" text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	WITH "done" AS (
		UPDATE tessera.api_key SET revoked_at = now() WHERE id = "revoked" AND revoked_at IS NULL RETURNING true
	)
	SELECT EXISTS (SELECT FROM "done")
$$;

-- Stores that keys are in use, unless that was stored within so many seconds.
CREATE FUNCTION "tessera"."note_use_of_keys"("used" jsonb, "seconds" integer) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	UPDATE tessera.api_key SET last_used_at = now()
	WHERE id = ANY (tessera.texts_in("used"))
		AND (last_used_at IS NULL OR last_used_at < now() - make_interval(secs => "seconds"))
$$;

-- Sets columns of tessera.collection for a table. One that was renamed takes what was set for it to its new name.
CREATE FUNCTION "tessera"."set_collection"("table" oid, "settings" jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	own record;
BEGIN
	SELECT n.nspname AS schema_name, c.relname AS table_name INTO STRICT own
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = "table";
	-- It is copied, because there may be another table of the former name, for which the rules hold as well.
	INSERT INTO tessera.collection
	SELECT (jsonb_populate_record(c, to_jsonb(own))).* FROM tessera.collection c
	WHERE c.relation = "table" AND (c.schema_name, c.table_name) <> (own.schema_name, own.table_name)
	ON CONFLICT (schema_name, table_name) DO NOTHING;
	UPDATE tessera.collection c SET relation = to_regclass(format('%I.%I', c.schema_name, c.table_name))
	WHERE c.relation = "table" AND (c.schema_name, c.table_name) <> (own.schema_name, own.table_name);
	INSERT INTO tessera.collection (schema_name, table_name) VALUES (own.schema_name, own.table_name)
	ON CONFLICT (schema_name, table_name) DO NOTHING;
	UPDATE tessera.collection c SET
		relation = "table", changed_at = clock_timestamp(), crs = s.crs, requires_precondition = s.requires_precondition,
		modified_column = s.modified_column, temporal_column = s.temporal_column,
		temporal_end_column = s.temporal_end_column, coordinate_epoch = s.coordinate_epoch, readers = s.readers,
		creators = s.creators, editors = s.editors, removers = s.removers
	FROM tessera.collection before, jsonb_populate_record(before, "settings") s
	WHERE (before.schema_name, before.table_name) = (own.schema_name, own.table_name)
		AND (c.schema_name, c.table_name) = (own.schema_name, own.table_name);
END
$$;

-- Sets groups of the rules of a table, if all of them are still what the caller knows: it has decided by them. Returns false
-- if they are not.
CREATE FUNCTION "tessera"."set_rules"("table" oid, "rules" jsonb, "known" jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	groups text[] := ARRAY['readers', 'creators', 'editors', 'removers'];
	own jsonb;
	former jsonb;
BEGIN
	IF EXISTS (SELECT FROM jsonb_object_keys("rules") AS given WHERE given <> ALL (groups)) THEN
		RAISE EXCEPTION 'A rule has the groups %', groups;
	END IF;
	-- Others read meanwhile, and set what they set afterwards.
	LOCK TABLE tessera.collection IN SHARE ROW EXCLUSIVE MODE;
	own := (
		SELECT to_jsonb(m) FROM tessera.collection m JOIN pg_class c ON c.oid = "table"
		JOIN pg_namespace n ON n.oid = c.relnamespace WHERE (m.schema_name, m.table_name) = (n.nspname, c.relname)
	);
	-- As a gateway reads them: what was set for the table under another name holds as well.
	former := (
		SELECT to_jsonb(m) FROM tessera.collection m WHERE m.relation = "table"
		ORDER BY m.schema_name DESC, m.table_name DESC LIMIT 1
	);
	IF EXISTS (
		SELECT FROM unnest(groups) AS g (name)
		WHERE coalesce(nullif(own -> g.name, 'null'), nullif(former -> g.name, 'null'), 'null')
			<> coalesce("known" -> g.name, 'null')
	) THEN
		RETURN false;
	END IF;
	PERFORM tessera.set_collection("table", "rules");
	RETURN true;
END
$$;

REVOKE ALL ON FUNCTION
	"tessera"."texts_in"(jsonb), "tessera"."create_key"(jsonb), "tessera"."rotate_key"(text, timestamptz, jsonb),
	"tessera"."revoke_key"(text), "tessera"."note_use_of_keys"(jsonb, integer), "tessera"."set_collection"(oid, jsonb),
	"tessera"."set_rules"(oid, jsonb, jsonb)
FROM PUBLIC;
DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tessera_write') THEN
		GRANT EXECUTE ON FUNCTION
			"tessera"."create_key"(jsonb), "tessera"."rotate_key"(text, timestamptz, jsonb), "tessera"."revoke_key"(text),
			"tessera"."note_use_of_keys"(jsonb, integer), "tessera"."set_rules"(oid, jsonb, jsonb)
		TO "tessera_write";
	END IF;
END
$$;
