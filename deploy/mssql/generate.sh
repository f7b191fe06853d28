#!/bin/bash
# For the demo: adds DEMO_RATE rows to dbo.orders every second, in one transaction, until it is stopped.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source-path=SCRIPTDIR
. "$here/secret.sh"
SQLCMDPASSWORD=$(secret shop_writer_password)
export SQLCMDPASSWORD

trap 'exit 0' TERM INT
while :; do
  if sql -U shop_writer -d shop -i "$here/generate.sql" -v "ROWS=${DEMO_RATE:-20}"; then
    touch /tmp/wrote # what its health check looks at
  fi
  sleep 1 &
  wait $!
done
