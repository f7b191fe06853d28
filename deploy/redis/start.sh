#!/bin/sh
# Starts Redis with the password in a file, not in the arguments, where everybody on the host could read it.
set -eu
here=$(dirname "$0")
password=$(sh "$here/password.sh")
umask 077
{ cat "$here/redis.conf"; printf 'requirepass %s\n' "$password"; } >/tmp/redis.conf
exec redis-server /tmp/redis.conf "$@"
