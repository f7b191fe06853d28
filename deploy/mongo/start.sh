#!/bin/bash
# Starts MongoDB as a replica set of one, which asks everybody for a password, and beside it what makes the set and its
# users: only a connection from localhost may make the first user.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")

keyfile=${SECRETS:-/run/secrets}/mongo_keyfile
if ! [[ -s $keyfile ]]; then
  echo "mongo: no key in $keyfile: run scripts/secrets" >&2
  exit 1
fi
# mongod refuses a key that others may read; a secret that Compose mounts has the mode that it has on the host.
rm -f /tmp/keyfile
install -m 400 "$keyfile" /tmp/keyfile
port=${PORT:-27017}
server="mongodb://127.0.0.1:$port/?directConnection=true&serverSelectionTimeoutMS=120000"
set_up() {
  # mongosh gives up at once where nothing listens yet, whatever it is told to wait.
  until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.2; done
  mongosh --quiet --norc "$server" "$here/init.js"
}
(set_up &)
exec mongod --replSet rs0 --port "$port" --keyFile /tmp/keyfile --bind_ip_all --wiredTigerCacheSizeGB "${CACHE_GB:-0.5}"
