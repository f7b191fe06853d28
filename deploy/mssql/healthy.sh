#!/bin/bash
# Succeeds where the server takes a login and answers.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/secret.sh"
SQLCMDPASSWORD=$(secret mssql_sa_password)
export SQLCMDPASSWORD
MSSQL_SERVER=localhost sql -U sa -Q "SET NOCOUNT ON; SELECT 1" >/dev/null
