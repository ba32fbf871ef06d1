#!/bin/bash
# start-member NAME: its HAProxy and its Patroni, which starts PostgreSQL. When one of them ends, both do, and the
# container starts anew: what kept a member from running may pass. One that has never had data is another matter:
# what keeps it from starting will not pass by itself, so it says so and waits for a person.
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
# Patroni stops PostgreSQL as it should be stopped, and only then nobody needs the ways any more.
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
echo "$1 could not start $most_failures times, as is said above; docker compose restart $1 tries again" >&2
trap 'exit 0' TERM INT
sleep infinity &
wait
