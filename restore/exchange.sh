# shellcheck shell=bash
# Exchanges the restored and the current data in one step of the kernel: at no moment is there none, or half of it.
# Argument: PostgreSQL's major version. The volume with a copy of the current data is at /copy, read-only.
set -euo pipefail
exec 9>>/var/lib/postgresql/.in-use
flock --nonblock 9 || { echo "a server uses the tenant's data" >&2; exit 72; }
if [ ! -e "$PGDATA.exchange/.pgs-restored" ] || [ -e "$PGDATA/.pgs-restored" ]; then
  echo "there is nothing to exchange" >&2
  exit 73
fi
# It changes with each start of a server: with the same, the copy is that of this data.
if ! cmp --quiet "$PGDATA/global/pg_control" "/copy/$1/docker/global/pg_control"; then
  echo "the current data was changed since it was copied" >&2
  exit 76
fi
# The settings that the tenant has now. A link would lead to who knows what.
if [ -f "$PGDATA/postgresql.auto.conf" ] && [ ! -L "$PGDATA/postgresql.auto.conf" ]; then
  cp -p --remove-destination "$PGDATA/postgresql.auto.conf" "$PGDATA.exchange/postgresql.auto.conf"
fi
sync
python3 - "$PGDATA.exchange" "$PGDATA" <<'PYTHON'
import ctypes, os, sys

libc = ctypes.CDLL(None, use_errno=True)
here, exchange = -100, 2
if libc.renameat2(here, os.fsencode(sys.argv[1]), here, os.fsencode(sys.argv[2]), exchange) != 0:
    sys.exit("the volume's file system cannot exchange two folders: " + os.strerror(ctypes.get_errno()))
PYTHON
sync
