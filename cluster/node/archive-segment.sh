#!/bin/bash
# archive-segment.sh ARCHIVE CONTROLDATA DATA PGBACKREST CONFIGURATION STANZA PATH NAME
# PostgreSQL calls this for each file of its log that is finished, on primaries and on secondaries. A primary pushes the
# file into the archive. A secondary only waits until it is there, and keeps it until then: if the primary is lost
# before, the secondary pushes it as soon as it is primary itself. So a failover leaves no gap in the archive.
set -u
shopt -s nullglob

archive=$1 controldata=$2 data=$3 pgbackrest=$4 configuration=$5 stanza=$6 path=$7 name=$8

is_secondary() { LC_ALL=C "$controldata" "$data" | grep -q 'cluster state:.*recovery'; }

# pgBackRest adds a checksum and an ending to the name of a segment, and writes under another ending first.
is_archived() {
  local found
  for found in "$archive"/*/"$name" "$archive"/*/"${name:0:16}"/"$name" "$archive"/*/"${name:0:16}"/"$name"-*; do
    [ "${found%.tmp}" = "$found" ] && [ -e "$found" ] && return 0
  done
  return 1
}

is_secondary || exec "$pgbackrest" --config="$configuration" --stanza="$stanza" archive-push "$path"
for _ in {1..20}; do
  is_archived && exit 0
  sleep 0.1
done
# PostgreSQL keeps the file, and calls this again later.
exit 1
