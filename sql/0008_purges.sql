-- `tessera purge` makes gateways give up what they keep of a collection: a new time here is a new version of it.
ALTER TABLE "tessera"."collection" ADD COLUMN "purged_at" timestamp with time zone;
