-- Who may read and change single collections (`tessera collections set`), by roles in the tokens of callers.

ALTER TABLE "tessera"."collection"
	-- Roles of those who may read it; null for everybody.
	ADD COLUMN "readers" text[],
	-- The same for creating features, changing and removing them; null for those who may change all collections.
	ADD COLUMN "creators" text[],
	ADD COLUMN "editors" text[],
	ADD COLUMN "removers" text[];
