# shellcheck shell=bash
# Copies a stopped server's data into a volume of its own, and compares the two. The copy counts when it is called
# like data: a run that is cut off leaves it under another name, and the next one begins anew.
# Argument: PostgreSQL's major version. The tenant's volume is at /tenant, read-only.
set -euo pipefail
former=/tenant/$1/docker

fail() {
  echo "$2" >&2
  exit "$1"
}

if [ -e /tenant/.in-use ]; then
  exec 9</tenant/.in-use
  flock --nonblock 9 || fail 72 "a server uses the tenant's data"
fi
state=$(LC_ALL=C pg_controldata --pgdata "$former" | sed -n 's/^Database cluster state: *//p')
if [ "$state" != "shut down" ]; then fail 69 "the server was not stopped cleanly (it is: $state)"; fi
if [ -L "$former/pg_wal" ] || [ -n "$(ls -A "$former/pg_tblspc")" ]; then
  fail 70 "its data is not all in its data directory (tablespaces, or a pg_wal elsewhere): restore into another entry"
fi
needed=$(($(du -sb "$former" | cut -f1) + (256 << 20)))
free=$(df -B1 --output=avail /var/lib/postgresql | tail -n 1)
if ((free < needed)); then
  fail 68 "to keep the present data, $((needed >> 20)) MiB are needed on the disk of Docker's volumes, and $((free >> 20)) MiB are free"
fi
rm -rf "$PGDATA" "$PGDATA.part"
mkdir -p "$(dirname "$PGDATA")"
copying() { echo "copying the present data: $(mebibytes "$PGDATA.part") of $((needed - (256 << 20) >> 20)) MiB"; }
tells copying
cp -a --reflink=auto "$former" "$PGDATA.part"
sync
tells echo "comparing the copy with the present data"
if ! said=$(diff -r --brief --no-dereference "$former" "$PGDATA.part" 2>&1); then
  fail 71 "the copy of the present data is not like it: $(head -n 3 <<<"$said")"
fi
mv -T "$PGDATA.part" "$PGDATA"
sync
