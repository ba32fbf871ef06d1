#!/bin/bash
# announce-primary.sh REQUEST DATA CONTROLDATA HOST:PORT … EVENT ROLE SCOPE: called by Patroni, which adds the last
# three, when a worker's member has a new role. The first thing that a new primary does is to tell Patroni of the
# coordinators, which then sends writes to it. Patroni itself says the same when it is next around, up to two
# seconds later, and the writes of the group would wait until then. REQUEST is a file with what is to be said.
set -u

request=$1 data=$2 controldata=$3
coordinators=("${@:4:$#-6}")
role=${*: -2:1}
[ "$role" = primary ] || exit 0

for _ in {1..200}; do
  LC_ALL=C "$controldata" "$data" | grep -q 'in production' && break
  sleep 0.05
done

# Whoever is not the coordinators' primary takes no notice.
for coordinator in "${coordinators[@]}"; do
  timeout 2 bash -c 'exec 3<> "/dev/tcp/${0/://}"; cat "$1" >&3; read -r _ status _ <&3; [ "$status" = 200 ]' \
    "$coordinator" "$request" || echo "$coordinator did not hear of the new primary" &
done
wait
