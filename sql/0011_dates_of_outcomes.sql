-- The answer to a change that is repeated under its key has the date of the first time.

ALTER TABLE "tessera"."change_key"
	-- Second since 1970 of the feature's last change; null if its table does not tell.
	ADD COLUMN "modified" double precision;
