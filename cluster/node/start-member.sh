#!/bin/bash
# start-member NAME: its HAProxy and its Patroni, which starts PostgreSQL. When one of them ends, both do.
set -u

haproxy -W -db -f /config/node/ways.cfg &
ways=$!
/opt/patroni/bin/python /config/node/guarded-patroni.py "/config/node/$1.json" &
patroni=$!

trap 'kill -TERM "$patroni"' TERM INT
wait -n "$ways" "$patroni"
# Patroni stops PostgreSQL as it should be stopped, and only then nobody needs the ways any more.
kill -TERM "$patroni" 2> /dev/null
while kill -0 "$patroni" 2> /dev/null; do wait "$patroni"; done
kill -TERM "$ways" 2> /dev/null
wait "$ways"
