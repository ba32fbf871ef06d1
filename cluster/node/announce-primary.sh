#!/bin/bash
# announce-primary.sh REQUEST DATA CONTROLDATA HOST:PORT … EVENT ROLE SCOPE
# Patroni calls this when a member of a worker has a new role, and adds the last three arguments. As soon as a new
# primary accepts writes, it sends the HTTP request in the file REQUEST to the Patroni of each coordinator, so that the
# coordinator sends writes to it. Patroni itself sends the same only in its next loop, up to two seconds later, and
# writes of the group would wait until then.
set -u

request=$1 data=$2 controldata=$3
coordinators=("${@:4:$#-6}")
role=${*: -2:1}
[ "$role" = primary ] || exit 0

in_production() { LC_ALL=C "$controldata" "$data" | grep -q 'in production'; }

for _ in {1..200}; do
  in_production && break
  sleep 0.05
done
in_production || { echo "not in production after 10 s: not announced"; exit 1; }

# A Patroni that is not that of the coordinators' primary ignores the request.
for coordinator in "${coordinators[@]}"; do
  timeout 2 bash -c 'exec 3<> "/dev/tcp/${0/://}"; cat "$1" >&3; read -r _ status _ <&3; [ "$status" = 200 ]' \
    "$coordinator" "$request" || echo "could not announce the new primary to $coordinator" &
done
wait
