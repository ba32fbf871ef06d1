-- The audit: who has changed which features, when and from where. An entry is written in the transaction of its change.

CREATE TABLE "tessera"."audit" (
	-- The cell next to whose features the entry is stored.
	"cell" integer NOT NULL,
	-- The clock when the entry was written: of two changes of a feature, the later one has the later time.
	"changed_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"entry" uuid DEFAULT gen_random_uuid() NOT NULL,
	-- The names of the table at that time.
	"schema_name" text NOT NULL,
	"table_name" text NOT NULL,
	"feature_id" text NOT NULL,
	-- created, changed or removed
	"action" text NOT NULL,
	-- The id of an API key, or the issuer and the subject of a token; empty for a caller without credentials.
	"caller" text NOT NULL,
	-- The address of the client, as trusted proxies report it.
	"address" text NOT NULL,
	-- As in the log of the gateway.
	"request_id" text NOT NULL,
	-- The feature before and after the change, with its geometry as it is stored; null if values are not kept.
	"before" text,
	"after" text,
	CONSTRAINT "audit_pkey" PRIMARY KEY("cell","changed_at","entry")
) PARTITION BY RANGE ("changed_at");

CREATE INDEX "audit_feature_idx" ON "tessera"."audit" USING btree ("cell","feature_id","changed_at");
CREATE INDEX "audit_changed_at_idx" ON "tessera"."audit" USING btree ("changed_at");

-- For how many days entries are kept. Without a row they are kept for ever.
CREATE TABLE "tessera"."audit_retention" (
	"days" integer NOT NULL
);

ALTER TABLE "tessera"."collection"
	-- What the audit keeps of changes: ids, or values too; null for nothing.
	ADD COLUMN "audit" text,
	-- Roles of those who may see it; null for those who may see that of all collections.
	ADD COLUMN "auditors" text[];

-- Sets columns of tessera.collection for a table, as before, and those of the audit. One that was renamed takes what was set for
-- it to its new name.
CREATE OR REPLACE FUNCTION "tessera"."set_collection"("table" oid, "settings" jsonb) RETURNS void
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
		creators = s.creators, editors = s.editors, removers = s.removers, audit = s.audit, auditors = s.auditors
	FROM tessera.collection before, jsonb_populate_record(before, "settings") s
	WHERE (before.schema_name, before.table_name) = (own.schema_name, own.table_name)
		AND (c.schema_name, c.table_name) = (own.schema_name, own.table_name);
END
$$;

-- Takes back what anybody but the owner may do with a table, as default privileges (bootstrap/roles.sql) have given it.
CREATE FUNCTION "tessera"."keep_private"("relation" regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	name text;
BEGIN
	FOR name IN
		SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
		FROM pg_class c, aclexplode(c.relacl) a
		WHERE c.oid = "relation" AND a.grantee <> c.relowner
	LOOP
		EXECUTE format('REVOKE ALL ON %s FROM %s', "relation", name);
	END LOOP;
END
$$;

-- Entries of a time that has no partition of its own, because no gateway has run for so long.
CREATE TABLE "tessera"."audit_rest" PARTITION OF "tessera"."audit" DEFAULT;

-- Citus only.
DO $$
BEGIN
	IF to_regproc('pg_catalog.create_distributed_table') IS NOT NULL THEN
		PERFORM create_distributed_table('tessera.audit', 'cell', colocate_with => 'tessera.moved_feature');
	END IF;
END
$$;

-- Creates the partitions of this month and of the next one, and drops those whose entries have been kept for long enough.
-- Gateways call it. It runs as the owner and takes nothing: a gateway can neither choose what is dropped, nor when.
CREATE FUNCTION "tessera"."tend_audit"() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
-- Changes wait behind a statement that waits for the lock of the table. It is tried again.
SET lock_timeout = '500ms' AS $$
DECLARE
	start timestamptz;
	until timestamptz;
	kept_from timestamptz := now() - make_interval(days => (SELECT min(days) FROM tessera.audit_retention));
	name text;
BEGIN
	-- Other gateways have nothing to do meanwhile.
	IF NOT pg_try_advisory_xact_lock(7355609) THEN
		RETURN;
	END IF;
	-- Citus: one shard after the other, so that several tables can be changed in one transaction.
	PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true);
	FOR start IN SELECT generate_series(date_trunc('month', now()), date_trunc('month', now()) + interval '1 month', '1 month') LOOP
		until := start + interval '1 month';
		name := to_char(start, '"audit_"YYYY_MM');
		CONTINUE WHEN to_regclass('tessera.' || name) IS NOT NULL;
		-- A month some of whose entries are in the rest stays there.
		CONTINUE WHEN EXISTS (SELECT 1 FROM tessera.audit_rest WHERE changed_at >= start AND changed_at < until);
		EXECUTE format('CREATE TABLE tessera.%I PARTITION OF tessera.audit FOR VALUES FROM (%L) TO (%L)', name, start, until);
		PERFORM tessera.keep_private(format('tessera.%I', name)::regclass);
	END LOOP;
	IF kept_from IS NULL THEN
		RETURN;
	END IF;
	FOR name IN
		SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'tessera.audit'::regclass AND c.relname ~ '^audit_\d{4}_\d\d$'
			AND to_timestamp(c.relname, '"audit_"YYYY_MM') + interval '1 month' <= kept_from
	LOOP
		EXECUTE format('DROP TABLE tessera.%I', name);
	END LOOP;
	IF EXISTS (SELECT 1 FROM tessera.audit_rest WHERE changed_at < kept_from) THEN
		DELETE FROM tessera.audit_rest WHERE changed_at < kept_from;
	END IF;
END
$$;

REVOKE ALL ON FUNCTION "tessera"."keep_private"(regclass), "tessera"."tend_audit"() FROM PUBLIC;

-- Gateways write entries and read them. They change and remove none.
SELECT "tessera"."keep_private"('"tessera"."audit"'), "tessera"."keep_private"('"tessera"."audit_rest"'),
	"tessera"."keep_private"('"tessera"."audit_retention"');
DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tessera_write') THEN
		GRANT SELECT, INSERT ON "tessera"."audit" TO "tessera_write";
		GRANT EXECUTE ON FUNCTION "tessera"."tend_audit"() TO "tessera_write";
	END IF;
END
$$;

SELECT "tessera"."tend_audit"();
