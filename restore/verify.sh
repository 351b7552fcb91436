# shellcheck shell=bash
# Verifies a base backup, and those that it is made on, where they lie: every file against its checksum.
# Arguments: Barman's name of the tenant; the base backup.
set -euo pipefail
server=$1 backup=$2
home=/var/lib/barman/$server
while [ -n "$backup" ] && [ "$backup" != None ]; do
  report echo "comparing base backup $backup with its checksums"
  # The WAL is read when it is replayed.
  if ! output=$(pg_verifybackup --quiet --no-parse-wal "$home/base/$backup/data" 2>&1); then
    echo "base backup $backup is damaged: $(tail -n 3 <<<"$output")" >&2
    exit 1
  fi
  backup=$(sed -n 's/^parent_backup_id=//p' "$home/meta/$backup-backup.info")
done
