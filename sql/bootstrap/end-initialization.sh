#!/bin/sh
# The database is complete. Its marker is removed for certain before anybody can write to it; see start-database.sh.
rm "$(dirname "$PGDATA")/tessera-initializing"
sync
