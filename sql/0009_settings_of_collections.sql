-- What operators set for single collections (`tessera collections`). Null is what holds for all collections.

ALTER TABLE "tessera"."collection"
	-- Codes of coordinate systems in which the collection is served besides those of all.
	ADD COLUMN "crs" text[],
	-- Whether changes without a condition are refused.
	ADD COLUMN "requires_precondition" boolean,
	-- The column in which Tessera stores the time of each change; null for that of managed tables.
	ADD COLUMN "modified_column" text,
	-- The column with the end of the time that begins in temporal_column; null if that is an instant.
	ADD COLUMN "temporal_end_column" text,
	-- The year to which the coordinates belong, with decimals; null if it is not known.
	ADD COLUMN "coordinate_epoch" double precision,
	-- Last change of one of these, by which gateways notice it.
	ADD COLUMN "changed_at" timestamp with time zone;
