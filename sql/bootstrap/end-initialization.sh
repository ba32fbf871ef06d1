#!/bin/sh
# The database is complete.
rm -f "$PGDATA/tessera-initializing"
