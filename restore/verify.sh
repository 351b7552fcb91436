# shellcheck shell=bash
# Verifies a base backup, and those that it is made on, where they lie: every file against its checksum.
# Arguments: Barman's name of the tenant; the base backup.
set -euo pipefail
server=$1 backup=$2
home=/var/lib/barman/$server
damaged() {
  echo "base backup $backup is damaged: $1" >&2
  exit 1
}

# The tenant may write here. pg_verifybackup follows links: two to their own folder for as long as it runs.
refuse_links() {
  local base=$home/base/$backup path
  while IFS= read -r -d '' path; do
    if [[ ${path#"$base"} =~ ^/data/pg_tblspc/([0-9]+)$ && $(readlink "$path") == "$base/${BASH_REMATCH[1]}" ]]; then
      continue
    fi
    damaged "${path#"$base/"} is neither a file nor a folder"
  done < <(find "$base" ! -type f ! -type d -print0)
}

while [ -n "$backup" ] && [ "$backup" != None ]; do
  report echo "comparing base backup $backup with its checksums"
  refuse_links
  # The WAL is read when it is replayed.
  if ! output=$(pg_verifybackup --quiet --no-parse-wal "$home/base/$backup/data" 2>&1); then
    damaged "$(tail -n 3 <<<"$output")"
  fi
  parent=$(sed -n 's/^parent_backup_id=//p' "$home/meta/$backup-backup.info")
  if [[ $parent != None && ! $parent < $backup ]]; then damaged "it is made on a later one"; fi
  backup=$parent
done
