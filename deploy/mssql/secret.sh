# shellcheck shell=bash
# secret NAME: prints the secret of that name. SECRETS: where secrets are, /run/secrets in a container.
secret() {
  local file=${SECRETS:-/run/secrets}/$1
  if ! [[ -s $file ]]; then
    echo "mssql: no password in $file: run scripts/secrets" >&2
    return 1
  fi
  cat "$file"
}

SQLCMD=${SQLCMD:-/opt/mssql-tools18/bin/sqlcmd}
# -C: the server's certificate is its own, made at its first start. -b: an error ends with exit code 1.
sql() { "$SQLCMD" -C -b -l 5 -S "${MSSQL_SERVER:-mssql,1433}" "$@"; }
