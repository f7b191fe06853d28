#!/bin/bash
# Starts SQL Server. Its image takes the administrator's password from the environment alone, and looks at it when the
# data are made; given here it stands in no file of Docker's.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/secret.sh"
MSSQL_SA_PASSWORD=$(secret mssql_sa_password)
export MSSQL_SA_PASSWORD
exec /opt/mssql/bin/sqlservr
