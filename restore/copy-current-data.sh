# shellcheck shell=bash
# Copies a stopped server's data into a volume of its own, and compares the two. The copy counts when it is called
# like data: a run that is cut off leaves it under another name, and the next one starts again.
# Argument: PostgreSQL's major version. The tenant's volume is at /tenant, read-only.
set -euo pipefail
current=/tenant/$1/docker

fail() {
  echo "$2" >&2
  exit "$1"
}

if [ -e /tenant/.in-use ]; then
  exec 9</tenant/.in-use
  flock --nonblock 9 || fail 72 "a server uses the tenant's data"
fi
state=$(LC_ALL=C pg_controldata --pgdata "$current" | sed -n 's/^Database cluster state: *//p')
if [ "$state" != "shut down" ]; then fail 69 "the server was not stopped cleanly (it is: $state)"; fi
if [ -L "$current/pg_wal" ] || [ -n "$(ls -A "$current/pg_tblspc")" ]; then
  fail 70 "its data is not all in its data directory (tablespaces, or a pg_wal elsewhere): restore into another entry"
fi
needed=$(($(du -sb "$current" | cut -f1) + (256 << 20)))
free=$(df -B1 --output=avail /var/lib/postgresql | tail -n 1)
if ((free < needed)); then
  fail 68 "to keep the current data, $((needed >> 20)) MiB are needed on the disk of Docker's volumes, and $((free >> 20)) MiB are free"
fi
rm -rf "$PGDATA" "$PGDATA.part"
mkdir -p "$(dirname "$PGDATA")"
copying() { echo "copying the current data: $(mebibytes "$PGDATA.part") of $((needed - (256 << 20) >> 20)) MiB"; }
report copying
cp -a --reflink=auto "$current" "$PGDATA.part"
sync
report echo "comparing the copy with the current data"
if ! output=$(diff -r --brief --no-dereference "$current" "$PGDATA.part" 2>&1); then
  fail 71 "the copy of the current data is not like it: $(head -n 3 <<<"$output")"
fi
mv -T "$PGDATA.part" "$PGDATA"
sync
