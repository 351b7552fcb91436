# Starts a restored server where nobody can reach it, and reads all of it. Prints the seconds until it was ready, how
# many transactions it has seen, and a line for each database: its relations, its rows, its name.
set -euo pipefail
log=/tmp/server.log
begun=$(date +%s%3N)
pg_ctl --pgdata "$PGDATA" --wait --timeout 86400 --silent --log "$log" \
  --options "-c listen_addresses= -c unix_socket_directories=/tmp -c archive_mode=off -c shared_buffers=128MB -c logging_collector=off" start ||
  { tail -n 5 "$log" >&2; exit 1; }
echo "ready $(($(date +%s%3N) - begun))"

ask() { psql --no-psqlrc --quiet --tuples-only --no-align --host /tmp --username postgres --set ON_ERROR_STOP=1 "$@"; }
echo "transactions $(ask --dbname postgres --command 'SELECT pg_snapshot_xmax(pg_current_snapshot())')"
ask --dbname postgres --command "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate" |
  while read -r database; do
    tables="SELECT format('SELECT count(*) FROM %I.%I', nspname, relname)
      FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
      WHERE relkind IN ('r', 'm') AND relpersistence = 'p' AND (relkind = 'r' OR relispopulated)
      AND nspname NOT IN ('pg_catalog', 'information_schema')"
    counts=$(printf '%s \\gexec\n' "$tables" | ask --dbname "$database")
    echo "database $(grep -c . <<<"$counts" || true) $(awk '{ rows += $1 } END { print rows + 0 }' <<<"$counts") $database"
  done

if ! said=$(pg_amcheck --host /tmp --username postgres --all --install-missing --jobs 1 2>&1); then
  echo "pg_amcheck: $(tail -n 5 <<<"$said")" >&2
  exit 1
fi
pg_ctl --pgdata "$PGDATA" --mode immediate --silent stop
