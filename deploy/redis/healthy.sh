#!/bin/sh
# Succeeds where Redis answers, and has read its data.
set -eu
REDISCLI_AUTH=$(sh "$(dirname "$0")/password.sh")
export REDISCLI_AUTH
[ "$(redis-cli ping)" = PONG ]
