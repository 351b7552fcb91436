# shellcheck shell=bash
# Recovers the data that lay-out.sh left to its time, in a container that has this volume alone.
# Arguments: the old and the new name of the database; SQL that the new server is set up with; `beside` where the data
# is left beside the current, as $PGDATA.exchange, else empty.
set -eu
old=$1 new=$2 setup=$3 place=$4
laid_out=$PGDATA.restoring
log=/tmp/recovery.log
if [ -z "$place" ] && [ -e "$PGDATA" ]; then exit 0; fi

# No connection before the end of recovery: what is on its way to the time is no answer to anything.
start() { start_server "$laid_out" "$log" hot_standby=off log_min_messages=log; }

segments=$(find "$laid_out/barman_wal" -name '[0-9A-F]*[0-9A-F]' ! -name '*.*' 2>/dev/null | wc -l)
replaying() {
  local replayed
  # Some are fetched twice.
  replayed=$(grep -oE 'restored log file "[0-9A-F]{24}"' "$log" | sort -u | wc -l)
  echo "replaying WAL: $replayed of at most $segments segments"
}

last_commit() {
  local time
  time=$(sed -n 's/^.*last completed transaction was at log time //p' "$log" | tail -n 1)
  echo "${time:-before its base backup}"
}

gap() { if [ -e "$laid_out/barman_wal/.gap" ]; then echo ", and $(cat "$laid_out/barman_wal/.gap") is missing"; fi; }

was_stopped() {
  local where
  if [ ! -e "$laid_out/barman_wal/.stopped" ] || [ -e "$laid_out/barman_wal/.gap" ]; then return 1; fi
  where=$(sed -n 's/^.*redo done at \([0-9A-F/]*\) .*/\1/p' "$log" | tail -n 1)
  pg_waldump --path "$laid_out/barman_wal" --timeline "$(cat "$laid_out/barman_wal/.stopped")" --start "$where" --limit 1 |
    grep -q CHECKPOINT_SHUTDOWN
}

report replaying
if ! start; then
  if ! grep -q "recovery ended before configured recovery target was reached" "$log"; then
    tail -n 5 "$log" >&2
    exit 1
  fi
  # Of a server that was stopped there, what is here is that of any later time. Of others, it is unknown what is missing.
  if ! was_stopped; then
    echo "the WAL of that time is missing: its last commit that is there is of $(last_commit)$(gap)." \
      "A restore to the end, without a time, or to an earlier time is possible" >&2
    exit 66
  fi
  sed -i '/^recovery_target_time/d' "$laid_out/postgresql.auto.conf"
  start || { tail -n 5 "$log" >&2; exit 1; }
fi
echo "its last commit is of $(last_commit)"

# At that time, the tenant may have been without its database postgres.
main=postgres
ask() { psql --no-psqlrc --quiet --host /tmp --username postgres --dbname "$main" --set ON_ERROR_STOP=1 "$@"; }
ask --command "" 2>/dev/null || main=template1
ask --set old="$old" --set new="$new" <<'SQL'
SELECT format('ALTER DATABASE %I RENAME TO %I', :'old', :'new') FROM pg_database
WHERE datname = :'old' AND :'old' <> :'new' AND NOT EXISTS (SELECT FROM pg_database WHERE datname = :'new') \gexec
ALTER SYSTEM RESET ALL;
SQL
printf '%s' "$setup" | ask
pg_ctl --pgdata "$laid_out" --mode fast --wait --timeout 3600 --silent stop
rm -rf "$laid_out"/barman_wal "$laid_out"/.barman-recover.info "$laid_out"/backup_manifest.* "$laid_out"/*.conf.origin
if [ -n "$place" ]; then : >"$laid_out/.pgs-restored"; fi
sync
if [ -n "$place" ]; then mv -T "$laid_out" "$PGDATA.exchange"; else mv -T "$laid_out" "$PGDATA"; fi
