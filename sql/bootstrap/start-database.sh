#!/bin/sh
# Starts the database's image, whose own start takes a folder with a PG_VERSION for a complete database. A marker next to
# that folder exists from before its creation until the initialization is complete. If the marker is there at a start, the
# initialization was interrupted: the folder, which has no data of users yet, is removed and initialized again.
set -eu

volume=$(dirname "$PGDATA")
marker=$volume/tessera-initializing
if [ -e "$marker" ]; then
  echo "The last initialization was broken off: it begins again."
  rm -rf "$PGDATA"
fi
if [ ! -e "$PGDATA" ]; then
  # The server's user removes the marker.
  chown postgres "$volume"
  touch "$marker"
  sync
fi
exec docker-entrypoint.sh "$@"
