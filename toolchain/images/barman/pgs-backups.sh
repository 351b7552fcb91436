#!/bin/bash
# Keeps every tenant's WAL streaming and its base backups coming, by the files in servers.d.
# With an argument it does one thing instead:
#   status          says how they stand: a line of JSON for each tenant
#   backup TENANT   makes a base backup now; TENANT is Barman's own name, such as tenant-acme
#   archive TENANT  files all that was received, for a restore; of one that is being stopped, all that it wrote; with
#                   `mark`, of one that runs, so that the WAL tells that nothing is missing until now
home=/var/lib/barman
servers=$home/servers.d
# A full base backup of fewer bytes is as good as made: incremental ones would save nothing.
worth_saving=${PGS_WORTH_SAVING:-$((256 * 1024 * 1024))}
mkdir -p "$servers"
trap 'exit 0' TERM INT

# --- what a tenant's file says ---

# Of all tenants, by Barman's name.
tenants() {
  local file
  for file in "$servers"/*.conf; do
    file=${file##*/}
    if [ "$file" != '*.conf' ]; then echo "${file%.conf}"; fi
  done
}

says() { grep -qs "^$2" "$servers/$1.conf"; }

# WAL is received. Of a tenant that is being stopped, until its server is gone.
is_active() { [ -e "$servers/$1.conf" ] && ! says "$1" 'active = false'; }

is_stopped() { says "$1" '; stopped'; }

retention_days() { sed -n 's/^retention_policy = RECOVERY WINDOW OF \([0-9]*\) DAYS$/\1/p' "$servers/$1.conf"; }

ask() { psql --no-psqlrc --tuples-only --no-align "$(sed -n 's/^conninfo = //p' "$servers/$1.conf")" --command "$2"; }

# Into the container's log.
tell() { echo "$(date -u '+%F %T') $*" >/proc/1/fd/2; }

# --- WAL ---

# Starts what receives WAL where it does not run, files what is complete, deletes what retention lets go: every
# minute, and as soon as a tenant comes or changes.
keep_streaming() {
  local seen='' minute='' now uptime tenant
  while :; do
    # Not the clock, which may be set.
    read -r uptime _ </proc/uptime
    now="$((${uptime%.*} / 60)) $(stat -c %y "$servers")"
    if [ "$now" != "$seen" ]; then
      seen=$now
      if [ -n "$minute" ] && [ "$minute" != "${now%% *}" ]; then count_down; fi
      minute=${now%% *}
      # Before: one that cannot go on runs for a moment after it was started.
      go_on_after_a_gap
      barman -q cron >/dev/null 2>&1
    fi
    finish_stopped
    sleep 1
  done
}

is_receiving() { cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' | grep -q " receive-wal $1 "; }

# A server that shuts down sends all that it wrote, and then ends. What it sent is filed, and nothing more asked for.
finish_stopped() {
  local file tenant
  grep -ls '^; stopped' "$servers"/*.conf | while read -r file; do
    tenant=$(basename "$file" .conf)
    if ! is_active "$tenant" || is_receiving "$tenant"; then continue; fi
    if ask "$tenant" 'SELECT 1' >/dev/null 2>&1; then continue; fi
    barman -q archive-wal "$tenant" >/dev/null 2>&1
    if is_stopped "$tenant"; then echo 'active = false' >>"$file"; fi
  done
}

# A commit now, and the rest of its segment: a restore as of any time before it finds it, unless WAL is missing.
mark() {
  local segment
  if ! is_active "$1" || is_stopped "$1" || ! is_receiving "$1"; then return; fi
  ask "$1" 'SELECT txid_current()' >/dev/null 2>&1 || return
  segment=$(ask "$1" 'SELECT pg_walfile_name(pg_switch_wal())' 2>/dev/null) || return
  for _ in {1..200}; do
    if [ -e "$home/$1/streaming/$segment" ] || [ -e "$home/$1/wals/${segment:0:16}/$segment" ]; then return; fi
    sleep 0.1
  done
}

archive() {
  for _ in {1..60}; do
    if ! is_stopped "$1" || ! is_active "$1"; then break; fi
    sleep 1
  done
  if [ "${2-}" = mark ]; then mark "$1"; fi
  # Barman leaves it to its own round, when that is at it.
  flock --wait 60 "/tmp/.$1-archive-wal.lock" true
  barman -q archive-wal "$1"
}

# After a long silence the server may have dropped what comes next: the slot holds WAL back up to a limit only.
# Then nothing more would ever be received. What there is stays, and the rest begins with a new base backup; a
# restore sees the gap between the two.
go_on_after_a_gap() {
  local tenant
  for tenant in $(tenants); do
    if ! is_active "$tenant" || is_receiving "$tenant"; then
      rm -f "/tmp/$tenant.silent"
    elif [ ! -e "/tmp/$tenant.silent" ]; then
      touch "/tmp/$tenant.silent"
    else
      begin_anew "$tenant" >/dev/null 2>&1
    fi
  done
}

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
    tell "$1: WAL between $last and $first was never received; it begins anew with a base backup"
    mv "$home/$1/streaming/$last.partial" "$home/$1/streaming/$last"
    # An empty one is where pg_receivewal goes on from.
    touch "$home/$1/streaming/$first.partial" "$servers/$1.due"
    barman -q archive-wal "$1"
  fi
}

# --- base backups ---

# A field of a base backup's record.
field() { sed -n "s/^$3=//p" "$home/$1/meta/$2-backup.info"; }

# The newest usable base backup; with `full` the newest that is no incremental one; nothing when there is none.
# Barman itself would take half a second of a processor to tell.
newest_backup() {
  local info id newest=
  for info in "$home/$1"/meta/*-backup.info; do
    if ! grep -qsE '^status=(DONE|WAITING_FOR_WALS)$' "$info"; then continue; fi
    if [ "${2-}" = full ] && grep -q '^parent_backup_id=[0-9]' "$info"; then continue; fi
    id=${info##*/}
    id=${id%-backup.info}
    if [[ $id > $newest ]]; then newest=$id; fi
  done
  echo "$newest"
}

# When a base backup was begun, in seconds since 1970; 0 without one.
begun_at() {
  if [ -z "$1" ]; then echo 0; else date -u -d "${1:0:8} ${1:9:2}:${1:11:2}:${1:13:2}" +%s; fi
}

# When the tenant's daily base backup was last to be made, in seconds since 1970.
last_due() {
  local due
  due=$(date -u -d "$(sed -n 's/^; daily at //p' "$servers/$1.conf")" +%s)
  if ((due > $(date +%s))); then due=$((due - 86400)); fi
  echo "$due"
}

# By what the server says: when it was just started anew, Barman refuses a base backup until its slot is in use.
is_streaming() {
  compgen -G "$home/$1/streaming/*.partial" >/dev/null && is_receiving "$1" &&
    [ "$(ask "$1" "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'pgs_barman' AND active" 2>/dev/null)" = 1 ]
}

is_due() { [ -e "$servers/$1.due" ] || (($(begun_at "$(newest_backup "$1")") < $(last_due "$1"))); }

failed_lately() { [ -e "/tmp/$1.failed" ] && [ -n "$(find "/tmp/$1.failed" -mmin -2 2>/dev/null)" ]; }

# Whether the next base backup is a full one. Otherwise it is what differs from the last full one, which is made
# sooner and takes less room; a restore then combines the two, and no more than two.
has_to_be_full() {
  local full newest age days
  full=$(newest_backup "$1" full)
  # None yet; PostgreSQL 16, or a server that notes no changed blocks; begun anew; the last try failed.
  if [ -z "$full" ] || [ "$(field "$1" "$full" summarize_wal)" != on ]; then return 0; fi
  if [ -e "$servers/$1.due" ] || [ -e "/tmp/$1.failed" ]; then return 0; fi
  # What retention lets go are full ones with all that came from them.
  age=$(($(date +%s) - $(begun_at "$full")))
  days=$(retention_days "$1")
  if ((age > 7 * 86400 || age * 2 > days * 86400)); then return 0; fi
  newest=$(newest_backup "$1")
  if (($(field "$1" "$full" size) < worth_saving)); then return 0; fi
  [ "$newest" != "$full" ] && (($(field "$1" "$newest" size) * 2 > $(field "$1" "$full" size)))
}

# One that was cut off or failed restores nothing, and would take room for ever.
remove_failed() {
  local info id
  for info in "$home/$1"/meta/*-backup.info; do
    if [ ! -e "$info" ] || grep -qE '^status=(DONE|WAITING_FOR_WALS)$' "$info"; then continue; fi
    id=${info##*/}
    id=${id%-backup.info}
    # First what fills the disk: Barman writes before it deletes.
    rm -rf "${home:?}/$1/base/$id"
    barman -q delete "$1" "$id"
  done
}

# One of a tenant at a time. What goes wrong is in Barman's log, which is that of the container.
back_up() (
  exec 9>"/tmp/$1.lock"
  flock -n 9 || exit 1
  remove_failed "$1"
  # Before the first one, Barman wants to see that WAL arrives.
  if [ -z "$(newest_backup "$1")" ]; then
    barman -q switch-wal --force --archive --archive-timeout 30 "$1" 9>&- || exit 1
  fi
  kind=()
  if ! has_to_be_full "$1"; then kind=(--incremental "$(newest_backup "$1" full)"); fi
  if barman -q backup "${kind[@]}" "$1" 9>&-; then
    rm -f "$servers/$1.due" "/tmp/$1.failed"
  else
    touch "/tmp/$1.failed"
    remove_failed "$1"
    exit 1
  fi
)

# One after another: a base backup is heavy for the host's disk.
make_backups() {
  local tenant now minute=''
  while :; do
    printf -v now '%(%H:%M)T'
    for tenant in $(tenants); do
      # Once a minute for what the clock says; what is due at once has a file.
      if [ "$now" = "$minute" ] && [ ! -e "$servers/$tenant.due" ]; then continue; fi
      if ! is_active "$tenant" || is_stopped "$tenant"; then continue; fi
      if failed_lately "$tenant" || ! is_due "$tenant" || ! is_streaming "$tenant"; then continue; fi
      back_up "$tenant" >/dev/null 2>&1 || touch "/tmp/$tenant.failed"
    done
    minute=$now
    sleep 1
  done
}

# --- the copy off the host ---

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
  printf '{"base":%s,"wal":%s,"waiting":%s}' "$base" "${wal:-0}" "$(find "$state/wals" -mindepth 1 2>/dev/null | wc -l)"
}

# --- tenants that were removed ---

# The backups of a tenant that was removed stay for its retention, and go then. What is counted are the minutes in
# which this container works: a clock that is set, or a long pause, never shortens the time.
count_down() {
  local tenant left days
  rm -rf "$home"/.deleted-*
  for tenant in $(tenants); do
    if is_active "$tenant" || is_stopped "$tenant"; then
      rm -f "$servers/$tenant.left"
      continue
    fi
    days=$(retention_days "$tenant")
    if [ -z "$days" ]; then continue; fi
    left=$(cat "$servers/$tenant.left" 2>/dev/null)
    # Not there yet, or emptied by a full disk.
    if [[ ! $left =~ ^[1-9][0-9]*$ ]]; then left=$((days * 1440)); fi
    if [ "$left" -gt 1 ]; then
      echo $((left - 1)) >"$servers/$tenant.left"
    else
      forget "$tenant"
    fi
  done
}

# In one step for Barman: what is half deleted is not to be restored.
forget() {
  if [ -e "$home/$1" ] && ! mv "$home/$1" "$home/.deleted-$1"; then return; fi
  rm -rf "$servers/$1".* "$home/tried/$1.json" "$home/.deleted-$1"
  tell "$1: its retention ended, its backups are deleted"
}

# --- how they stand ---

# Bytes of WAL that the server has and Barman has not; nothing when it does not answer, or nobody receives.
bytes_behind() {
  ask "$1" "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), write_lsn)::bigint FROM pg_stat_replication
            WHERE usename = 'pgs_barman' AND application_name = 'barman_receive_wal' LIMIT 1" 2>/dev/null
}

# When WAL was last received, in seconds since 1970; 0 when it never was.
wal_at() {
  find "$home/$1/streaming" "$home/$1/wals" -type f -regex '.*/[0-9A-F]+\(\.partial\)?' -printf '%T@\n' 2>/dev/null |
    sort -n | tail -n 1 | cut -d . -f 1 | grep . || echo 0
}

# When the tenant's first backup was begun, in seconds since 1970; 0 before.
since() { stat -c %Y "$home/$1/identity.json" 2>/dev/null || echo 0; }

print_status() {
  local tenant state behind base due left
  for tenant in $(tenants); do
    state=running behind='' due=false left=''
    if is_stopped "$tenant"; then
      state=stopped
    elif is_active "$tenant"; then
      behind=$(bytes_behind "$tenant")
    else
      state=removed
      left=$(cat "$servers/$tenant.left" 2>/dev/null)
    fi
    base=$(begun_at "$(newest_backup "$tenant")")
    if [ -e "$servers/$tenant.due" ]; then due=true; fi
    printf '{"tenant":"%s","state":"%s","since":%s,"base":%s,"due":%s,"wal":%s,"behind":%s,"size":%s,"left":%s,"tried":%s,"s3":%s}\n' \
      "${tenant#tenant-}" $state "$(since "$tenant")" "$base" $due \
      "$(wal_at "$tenant")" "${behind:-null}" "$(du -sb "$home/$tenant" 2>/dev/null | cut -f 1 | grep . || echo 0)" \
      "${left:-null}" "$(tr -d '\n' 2>/dev/null <"$home/tried/$tenant.json" | grep . || echo null)" \
      "$(offsite_status "$tenant")"
  done
}

case ${1-} in
  status) print_status ;;
  backup) back_up "$2" ;;
  archive) archive "$2" "${3-}" ;;
  *)
    keep_streaming &
    make_backups &
    copy_offsite &
    wait
    ;;
esac
