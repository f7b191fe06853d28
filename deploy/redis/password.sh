#!/bin/sh
# Prints the password. SECRETS: where secrets are, /run/secrets in a container.
set -eu
file=${SECRETS:-/run/secrets}/redis_password
if ! [ -s "$file" ]; then
  echo "redis: no password in $file: run scripts/secrets" >&2
  exit 1
fi
cat "$file"
