#!/bin/sh
# Starts the database's image, whose own start takes a folder with anything in it for a database that is complete.
# What was broken off while it was made, with no user's data in it yet, is removed first and made again.
set -eu

if [ -e "$PGDATA/tessera-initializing" ]; then
  echo "The last initialization was broken off: it begins again."
  find "$PGDATA" -mindepth 1 -delete
fi
exec docker-entrypoint.sh "$@"
