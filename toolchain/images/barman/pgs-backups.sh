#!/bin/bash
# Keeps every tenant's WAL streaming and its base backups coming, by the files in servers.d.
# With the argument `status` it says instead how they stand: a line of JSON for each tenant.
home=/var/lib/barman
servers=$home/servers.d
mkdir -p "$servers"
trap 'exit 0' TERM INT

# Starts what receives WAL where it does not run, files what is complete, deletes what retention lets go: every
# minute, and as soon as a tenant comes or changes.
keep_streaming() {
  local seen= now
  while :; do
    now="$((SECONDS / 60)) $(stat -c %y "$servers")"
    if [ "$now" != "$seen" ]; then
      seen=$now
      # Before: one that cannot go on runs for a moment after it was started.
      go_on_after_a_gap
      barman -q cron >/dev/null 2>&1
    fi
    sleep 1
  done
}

is_active() { [ -e "$servers/$1.conf" ] && ! grep -q '^active = false' "$servers/$1.conf"; }

is_receiving() { cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' | grep -q " receive-wal $1 "; }

# After a long silence the server may have dropped what comes next: the slot holds WAL back up to a limit only.
# Then nothing more would ever be received. What there is stays, and the rest begins with a new base backup; a
# restore sees the gap between the two.
go_on_after_a_gap() {
  local file tenant
  for file in "$servers"/*.conf; do
    tenant=$(basename "$file" .conf)
    if ! is_active "$tenant" || is_receiving "$tenant"; then
      rm -f "/tmp/$tenant.silent"
    elif [ ! -e "/tmp/$tenant.silent" ]; then
      touch "/tmp/$tenant.silent"
    else
      begin_anew "$tenant" >/dev/null 2>&1
    fi
  done
}

ask() { psql --no-psqlrc --tuples-only --no-align "$(sed -n 's/^conninfo = //p' "$servers/$1.conf")" --command "$2"; }

begin_anew() {
  local slot="FROM pg_replication_slots WHERE slot_name = 'pgs_barman'" status first last
  status=$(ask "$1" "SELECT coalesce(wal_status, 'unused') $slot") || return
  if [ "$status" = lost ]; then barman -q receive-wal --drop-slot "$1" || return; fi
  if [ "$status" = lost ] || [ -z "$status" ]; then barman -q receive-wal --create-slot "$1" || return; fi
  # A slot that was never used holds nothing: with it, what is written now comes first.
  first=$(ask "$1" "SELECT pg_walfile_name(coalesce(restart_lsn, pg_current_wal_lsn())) $slot") || return
  last=$(compgen -G "$home/$1/streaming/*.partial" | tail -n 1)
  last=$(basename "$last" .partial)
  # Only where the two do not overlap: this segment is never received again.
  if [[ ${#first} = 24 && ${#last} = 24 && ${first:0:8} = "${last:0:8}" && $first > $last ]]; then
    echo "$(date -u '+%F %T') $1: WAL between $last and $first was never received; it begins anew with a base backup" >/proc/1/fd/2
    mv "$home/$1/streaming/$last.partial" "$home/$1/streaming/$last"
    # An empty one is where pg_receivewal goes on from.
    touch "$home/$1/streaming/$first.partial" "$servers/$1.due"
    barman -q archive-wal "$1"
  fi
}

# The seconds since 1970 of the start of the newest usable base backup; 0 without one. Barman itself would take
# half a second of a processor to tell.
newest_backup() {
  local info id newest=
  for info in "$home/$1"/meta/*-backup.info; do
    if ! grep -qsE '^status=(DONE|WAITING_FOR_WALS)$' "$info"; then continue; fi
    id=${info##*/}
    id=${id%-backup.info}
    if [[ $id > $newest ]]; then newest=$id; fi
  done
  if [ -z "$newest" ]; then
    echo 0
  else
    date -u -d "${newest:0:8} ${newest:9:2}:${newest:11:2}:${newest:13:2}" +%s
  fi
}

# When the tenant's daily base backup was last to be made, in seconds since 1970.
last_due() {
  local due
  due=$(date -u -d "$(sed -n 's/^; daily at //p' "$servers/$1.conf")" +%s)
  if ((due > $(date +%s))); then due=$((due - 86400)); fi
  echo "$due"
}

is_streaming() { compgen -G "$home/$1/streaming/*.partial" >/dev/null && is_receiving "$1"; }

is_due() { [ -e "$servers/$1.due" ] || (($(newest_backup "$1") < $(last_due "$1"))); }

failed_lately() { [ -n "$(find "/tmp/$1.failed" -mmin -2 2>/dev/null)" ]; }

# What goes wrong is in Barman's log, which is that of the container.
back_up() {
  # Before the first one, Barman wants to see that WAL arrives.
  if [ "$(newest_backup "$1")" = 0 ]; then
    barman -q switch-wal --force --archive --archive-timeout 30 "$1" || return
  fi
  barman -q backup "$1"
}

# One after another: a base backup is heavy for the host's disk.
make_backups() {
  local file tenant
  while :; do
    for file in "$servers"/*.conf; do
      tenant=$(basename "$file" .conf)
      if ! is_active "$tenant"; then continue; fi
      if failed_lately "$tenant" || ! is_due "$tenant" || ! is_streaming "$tenant"; then continue; fi
      if back_up "$tenant" >/dev/null 2>&1; then
        rm -f "$servers/$tenant.due"
      else
        touch "/tmp/$tenant.failed"
      fi
    done
    sleep 1
  done
}

# Copies to S3 as long as a destination is set. It ends when that is taken away, and when something is wrong.
copy_offsite() {
  while :; do
    if [ -e "$home/destination/settings.json" ]; then pgs-offsite run; fi
    sleep 2
  done
}

# How the copy at S3 stands: start of its newest base backup, as of when all WAL is there, segments that wait.
offsite_status() {
  local state=$home/$1/offsite base=0 id wal
  if [ ! -e "$home/destination/settings.json" ]; then
    echo null
    return
  fi
  id=$(cat "$state/base" 2>/dev/null)
  if [ -n "$id" ]; then base=$(date -u -d "${id:0:8} ${id:9:2}:${id:11:2}:${id:13:2}" +%s); fi
  wal=$(stat -c %Y "$state/arrived" 2>/dev/null)
  printf '{"base":%s,"wal":%s,"waiting":%s}' "$base" "${wal:-0}" "$(ls "$state/wals" 2>/dev/null | wc -l)"
}

# Bytes of WAL that the server has and Barman has not; nothing when it does not answer, or nobody receives.
bytes_behind() {
  ask "$1" "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), write_lsn)::bigint FROM pg_stat_replication
            WHERE usename = 'pgs_barman' AND application_name = 'barman_receive_wal' LIMIT 1" 2>/dev/null
}

print_status() {
  local file tenant active behind
  for file in "$servers"/*.conf; do
    [ -e "$file" ] || continue
    tenant=$(basename "$file" .conf)
    active=false behind=
    if is_active "$tenant"; then active=true behind=$(bytes_behind "$tenant"); fi
    printf '{"tenant":"%s","active":%s,"base":%s,"behind":%s,"size":%s,"s3":%s}\n' "${tenant#tenant-}" $active \
      "$(newest_backup "$tenant")" "${behind:-null}" "$(du -sb "$home/$tenant" 2>/dev/null | cut -f1 || echo 0)" \
      "$(offsite_status "$tenant")"
  done
}

if [ "${1-}" = status ]; then
  print_status
  exit
fi
keep_streaming &
make_backups &
copy_offsite &
wait
