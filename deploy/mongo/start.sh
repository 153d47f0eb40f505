#!/bin/bash
# Start mongod as a member of $REPLICA_SET; its members know each other by the key in $MONGO_KEY.
set -euo pipefail
: "${REPLICA_SET:?name of the replica set}" "${MONGO_KEY:?key that the members of a replica set share}"
umask 077
printf '%s' "$MONGO_KEY" > /data/db.key
chown mongodb:mongodb /data/db.key
chmod 400 /data/db.key
exec docker-entrypoint.sh mongod --replSet "$REPLICA_SET" --keyFile /data/db.key --bind_ip_all
