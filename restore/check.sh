# shellcheck shell=bash
# Starts a restored server where nobody can reach it, and reads all of it. Prints the seconds until it was ready, and
# what is in it as count.sh does, which comes before.
set -euo pipefail
log=/tmp/server.log
tells echo "starting the server"
begun=$(date +%s%3N)
pg_ctl --pgdata "$PGDATA" --wait --timeout 86400 --silent --log "$log" \
  --options "-c listen_addresses= -c unix_socket_directories=/tmp -c archive_mode=off -c shared_buffers=128MB -c logging_collector=off" start ||
  { tail -n 5 "$log" >&2; exit 1; }
echo "ready $(($(date +%s%3N) - begun))"

tells echo "counting the rows"
count_all $((1 << 62)) --host /tmp

tells echo "reading all of it (pg_amcheck)"
if ! said=$(pg_amcheck --host /tmp --username postgres --all --install-missing --jobs 1 2>&1); then
  echo "pg_amcheck: $(tail -n 5 <<<"$said")" >&2
  exit 1
fi
pg_ctl --pgdata "$PGDATA" --mode immediate --silent stop
