#!/bin/sh
# The database is complete: for certain, before anybody can write to it.
rm -f "$PGDATA/tessera-initializing"
sync
