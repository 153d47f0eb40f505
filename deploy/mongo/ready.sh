#!/bin/bash
# Health check: initiate the replica set once, and succeed when this node takes writes.
set -euo pipefail
mongosh --quiet --norc --eval '
  db.getSiblingDB("admin").auth(process.env.MONGO_INITDB_ROOT_USERNAME, process.env.MONGO_INITDB_ROOT_PASSWORD);
  try { rs.status(); } catch (error) {
    if (error.codeName !== "NotYetInitialized") throw error;
    rs.initiate({ _id: process.env.REPLICA_SET, members: [{ _id: 0, host: process.env.REPLICA_SET + ":27017" }] });
  }
  quit(db.hello().isWritablePrimary ? 0 : 1);
'
