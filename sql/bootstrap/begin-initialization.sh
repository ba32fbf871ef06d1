#!/bin/sh
# Leaves word that the database is being made: where this file is found at a start, that was broken off.
touch "$PGDATA/tessera-initializing"
