#!/bin/sh
# Gives Tessera's roles the passwords of their URLs; the database's image runs this once, after roles.sql.
set -eu

for role in tessera_owner tessera_write tessera_read; do
  password=$(sed -n 's|^postgresql://[^:]*:\([^@]*\)@.*|\1|p' "/secrets/$role.url")
  # Through standard input: a command line is there for all to see.
  printf "\\set password '%s'\nalter role %s password :'password';\n" "$password" "$role" |
    psql -q -v ON_ERROR_STOP=1 --no-psqlrc --username "${POSTGRES_USER:-postgres}" --dbname "$POSTGRES_DB"
done
