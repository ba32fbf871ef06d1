#!/bin/bash
# start-member NAME: starts the member's HAProxy and its Patroni, which starts PostgreSQL. If one of them ends, this
# script stops the other, and the container restarts, because the cause may be temporary. If a member has never had
# data, the cause will not go away by itself, so after five attempts the script reports that and waits for a person.
set -u

data=/var/lib/tessera/data
failures=/var/lib/tessera/failed-starts
most_failures=5
is_stopping=

haproxy -W -db -f /config/node/ways.cfg &
ways=$!
/opt/patroni/bin/python /config/node/guarded-patroni.py "/config/node/$1.json" &
patroni=$!

trap 'is_stopping=yes; kill -TERM "$patroni"' TERM INT
wait -n "$ways" "$patroni"
# HAProxy stops last, because Patroni needs it until it has shut PostgreSQL down.
kill -TERM "$patroni" 2> /dev/null
while kill -0 "$patroni" 2> /dev/null; do wait "$patroni"; done
kill -TERM "$ways" 2> /dev/null
wait "$ways"
status=$?

if [ -n "$is_stopping" ] || [ -e "$data/PG_VERSION" ]; then
  rm -f "$failures"
  exit "$status"
fi
echo >> "$failures"
[ "$(wc -l < "$failures")" -lt "$most_failures" ] && exit 1
rm -f "$failures"
echo "$1 failed to start $most_failures times, see above; docker compose restart $1 tries again" >&2
trap 'exit 0' TERM INT
sleep infinity &
wait
