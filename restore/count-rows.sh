# shellcheck shell=bash
# For check.sh and for a live server. Prints a line for each database: its relations, its rows, its name; and last how
# many transactions the server has seen. Rows of a database with more than $1 bytes are not counted: `-`.
# What follows $1 goes to psql. The tenant may call a database as it likes: psql would take `a=b` as an argument for a
# connection string, and a line end would end the line.
count_rows() {
  local most=$1 main=postgres database size counts tables
  shift
  ask() { psql --no-psqlrc --quiet --tuples-only --no-align --username postgres --set ON_ERROR_STOP=1 "$@"; }
  tables="FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'm') AND relpersistence = 'p' AND (relkind = 'r' OR relispopulated)
    AND nspname NOT IN ('pg_catalog', 'information_schema')"
  # The tenant may have dropped its database postgres.
  ask "$@" --dbname "$main" --command "" 2>/dev/null || main=template1
  ask "$@" --dbname "$main" --command "SELECT pg_database_size(oid), datname FROM pg_database
    WHERE datallowconn AND NOT datistemplate AND datname !~ '[[:cntrl:]]'" |
    while IFS='|' read -r size database; do
      if ((size > most)); then
        echo "database $(PGDATABASE=$database ask "$@" --command "SELECT count(*) $tables") - $database"
        continue
      fi
      counts=$(printf '%s \\gexec\n' "SELECT format('SELECT count(*) FROM %I.%I', nspname, relname) $tables" |
        PGDATABASE=$database ask "$@")
      echo "database $(grep -c . <<<"$counts" || true) $(awk '{ rows += $1 } END { print rows + 0 }' <<<"$counts") $database"
    done
  # Last: where it is the same as elsewhere, nothing was written before it either.
  echo "transactions $(ask "$@" --dbname "$main" --command 'SELECT pg_snapshot_xmax(pg_current_snapshot())')"
}
