# shellcheck shell=bash
# Starts a restored server that no client reaches, and reads all of it. Prints the seconds until it was ready, and
# what is in it as count-rows.sh does, which comes before.
set -euo pipefail
log=/tmp/server.log
report echo "starting the server"
begun=$(date +%s%3N)
start_server "$PGDATA" "$log" || { tail -n 5 "$log" >&2; exit 1; }
echo "ready $(($(date +%s%3N) - begun))"

report echo "counting the rows"
count_rows $((1 << 62)) --host /tmp

report echo "reading all of it (pg_amcheck)"
if ! output=$(pg_amcheck --host /tmp --username postgres --all --install-missing --jobs 1 2>&1); then
  echo "pg_amcheck: $(tail -n 5 <<<"$output")" >&2
  exit 1
fi
pg_ctl --pgdata "$PGDATA" --mode immediate --silent stop
