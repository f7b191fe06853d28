#!/bin/bash
# Makes the sample database, its table and logins. Run again, it changes nothing but passwords.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source-path=SCRIPTDIR
. "$here/secret.sh"
SQLCMDPASSWORD=$(secret mssql_sa_password)
# sqlcmd takes the values of $(NAME) from the environment: they are in no argument, which others could read.
READER_PASSWORD=$(secret shop_reader_password)
WRITER_PASSWORD=$(secret shop_writer_password)
export SQLCMDPASSWORD READER_PASSWORD WRITER_PASSWORD
sql -U "${MSSQL_ADMIN:-sa}" -i "$here/init.sql"
