# Lays out a tenant's data as of a time in the new tenant's volume, for recover.sh to go on with. All backups are
# mounted here, read-only: so nothing of what is restored may run here.
# Arguments: Barman's name of the tenant; the time, empty for the end of the WAL; PostgreSQL's major version; where
# from: volume, or s3.
set -euo pipefail
server=$1 at=$2 version=$3 source=$4
laid_out=$PGDATA.restoring

if [ -e "$PGDATA" ]; then
  # A run that was cut off at its very end has done it already.
  if [ "$(cat "$PGDATA.restored" 2>/dev/null)" = "$server $at" ]; then exit 0; fi
  echo "there is data in the volume already, and a restore never replaces data: take restoreFrom out, or restore into another entry" >&2
  exit 65
fi
rm -rf "$laid_out" "$laid_out.staging"

# Whether a base backup in the volume had ended by then.
is_here() {
  local info ended
  for info in "/var/lib/barman/$server"/meta/*-backup.info; do
    if ! grep -qsE '^status=(DONE|WAITING_FOR_WALS)$' "$info"; then continue; fi
    ended=$(sed -n 's/^end_time=//p' "$info")
    if [ -z "$at" ] || (($(date -d "$ended" +%s) <= $(date -d "$at" +%s))); then return 0; fi
  done
  return 1
}

from_volume() {
  local backup=latest target=(--target-tli latest)
  if [ -n "$at" ]; then
    backup=auto
    target+=(--target-time "$at")
  fi
  mkdir -p "$laid_out.staging"
  barman -q restore --no-get-wal --partial-wal --target-action promote "${target[@]}" \
    --staging-path "$laid_out.staging" --staging-location local "$server" "$backup" "$laid_out" >&2
  rm -rf "$laid_out.staging"
}

if [ "$source" = s3 ]; then
  pgs-offsite restore "$server" "$at" "$laid_out"
elif is_here; then
  from_volume
else
  echo "there is no base backup of ${server#tenant-}${at:+ from before $at}" >&2
  exit 68
fi

found=$(cat "$laid_out/PG_VERSION")
if [ "$found" != "$version" ]; then
  echo "the backup is that of PostgreSQL $found: write version: $found" >&2
  exit 67
fi

# A recovery ends where a segment is missing as if that were the end: it would be taken for all there is.
before=
for file in "$laid_out"/barman_wal/*; do
  name=${file##*/}
  [[ $name =~ ^[0-9A-F]{24}$ ]] || continue
  number=$((16#${name:8:8} * 256 + 16#${name:16:8}))
  if [ -n "$before" ] && ((number > before + 1)); then
    echo "the WAL has a gap before $name" >&2
    exit 66
  fi
  before=$number
done
printf '%s %s' "$server" "$at" >"$PGDATA.restored"
