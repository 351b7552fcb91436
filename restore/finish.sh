# shellcheck shell=bash
# Removes the data from before from the tenant's volume, when the restored is in its place and the data from before is kept elsewhere.
# Argument: PostgreSQL's major version. The volume with the data from before is at /copy, read-only.
set -euo pipefail
note=/var/lib/postgresql/.pgs-restore
exec 9>>/var/lib/postgresql/.in-use
flock --nonblock 9 || { echo "a server uses the tenant's data" >&2; exit 72; }
if [ -e "$PGDATA/.pgs-restored" ]; then
  if [ ! -s "/copy/$1/docker/PG_VERSION" ]; then
    echo "the volume with the data from before is empty: nothing is removed" >&2
    exit 74
  fi
  rm -rf "$PGDATA.exchange"
  # Cut off between the next two, the note would pass for that of a restore which has exchanged nothing yet.
  printf '%s done\n' "$(head -n 1 "$note" | cut -d ' ' -f 1,2)" >"$note.part"
  sync
  mv -T "$note.part" "$note"
  sync
  rm "$PGDATA/.pgs-restored"
  sync
fi
rm -rf "$note" "$PGDATA.restoring" "$PGDATA.restoring.staging"
sync
