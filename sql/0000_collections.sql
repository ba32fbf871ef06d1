-- What Tessera knows of a collection beyond what the catalog of PostgreSQL says.
-- migrate.ts has made the schema already, for its own record of what was applied.

CREATE SCHEMA IF NOT EXISTS "tessera";

-- A table without a row here is served all the same: a row only adds to it.
CREATE TABLE "tessera"."collection" (
	"schema_name" text NOT NULL,
	"table_name" text NOT NULL,
	"title" text,
	"description" text,
	-- An SPDX identifier or a URL.
	"license" text,
	"attribution" text,
	-- Which column "datetime" is about; null for the first temporal one.
	"temporal_column" text,
	-- Whether Tessera created the table, and so may alter or replace it.
	"is_managed" boolean DEFAULT false NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "collection_table_key" UNIQUE("schema_name","table_name")
);
