# shellcheck shell=bash
# Lays out a tenant's data as of a time in a volume, for recover.sh. The tenant's backup volume, or what was fetched from
# the copies off the host, is mounted read-only; the backups that this host has beside the latter are at /known.
# Arguments: Barman's name of the tenant; the time, empty for the end of the WAL; PostgreSQL's major version; `beside`
# where it is laid out beside data that stays, else empty; the base backup, empty for the newest that fits; `stopped`
# where the tenant's server does not run, else empty.
set -euo pipefail
server=$1 at=$2 version=$3 place=$4 chosen=$5 stopped=$6
home=/var/lib/barman/$server
laid_out=$PGDATA.restoring

fail() {
  echo "$2" >&2
  exit "$1"
}

if [ -z "$place" ] && [ -e "$PGDATA" ]; then
  # A run that was cut off at its very end has done it already.
  if [ "$(cat "$PGDATA.restored" 2>/dev/null)" = "$server $at" ]; then exit 0; fi
  fail 65 "there is data in the volume already, and a restore never replaces data: take restoreFrom out, or restore into another entry"
fi
rm -rf "$laid_out" "$laid_out.staging"

# Of a backup, as Barman notes it.
field() { sed -n "s/^$2=//p" "$home/meta/$1-backup.info"; }

# 1/A0000028 as a number.
position() { echo $(((16#${1%/*} << 32) | 16#${1#*/})); }

# The number of the segment of that name, or of that position.
segment() { echo $((16#${1:8:8} * 256 + 16#${1:16:8})); }
segment_at() { echo $(($(position "$1") >> 24)); }

# The timelines that lead to $timeline, in their order, and where each was left. Arguments: what may be its history.
declare -A left=()
path=()
lead_to_timeline() {
  local number where
  if ((timeline > 1)); then
    while read -r number where _; do
      if ! [[ $number =~ ^[0-9]+$ ]]; then continue; fi
      path+=("$number")
      left[$number]=$where
    done < <(cat "$@" 2>/dev/null)
  fi
  path+=("$timeline")
}

laying_out() {
  # With the segment that is being received.
  echo "laying out base backup $backup and its WAL: $(mebibytes "$laid_out" "$laid_out.staging") of about $(((size + wal >> 20) + 16)) MiB"
}

# Each restore in place began a timeline, and the backups have its history from that moment on. What was the tenant's
# data at a time is on the timeline that was the last one then.
timeline=1 latest=1
target=$(date ${at:+-d "$at"} +%s%3N)
while read -r name _ begun _; do
  number=$((16#${name%.history}))
  if ((${begun%.*}000 <= target && number > timeline)); then timeline=$number; fi
  if ((number > latest)); then latest=$number; fi
done < <(
  grep -hE '^[0-9A-F]{8}\.history' "$home"/wals/*xlog.db 2>/dev/null || true
  find "$home/streaming" -name '*.history' -printf '%f %s %T@\n' 2>/dev/null || true
)

lead_to_timeline "$home"/{wals,streaming}/"$(printf '%08X' "$timeline").history"

# The newest that was complete by then and is on the way to it.
backup=
for info in $(compgen -G "$home/meta/*-backup.info" | sort -r); do
  id=$(basename "$info" -backup.info)
  if [ -n "$chosen" ] && [ "$id" != "$chosen" ]; then continue; fi
  if ! grep -qE '^status=(DONE|WAITING_FOR_WALS)$' "$info"; then continue; fi
  if [ -n "$at" ] && (($(date -d "$(field "$id" end_time)" +%s%3N) > target)); then continue; fi
  on=$(field "$id" timeline)
  if [ "$on" != "$timeline" ]; then
    if [ -z "${left[$on]-}" ] || (($(position "$(field "$id" end_xlog)") > $(position "${left[$on]}"))); then continue; fi
  fi
  backup=$id
  break
done
if [ -z "$backup" ]; then fail 68 "there is no base backup of ${server#tenant-}${at:+ from before $at}"; fi

major=$(($(field "$backup" version) / 10000))
if [ "$major" != "$version" ]; then fail 67 "the backup is that of PostgreSQL $major: write version: $major"; fi

# A full disk would stop the other tenants of the host: the data, the WAL, and something to work with.
mkdir -p "$laid_out.staging"
size=$(field "$backup" cluster_size)
if ! [[ $size =~ ^[0-9]+$ ]]; then size=$(du -sb "$home/base/$backup" | cut -f1); fi
wal=$(awk -v begin="$(field "$backup" begin_wal)" '$1 >= begin { sum += $2 } END { print sum + 0 }' "$home"/wals/*xlog.db)
needed=$((size + wal + (256 << 20)))
free=$(df -B1 --output=avail "$laid_out.staging" | tail -n 1)
if ((free < needed)); then
  rm -rf "$laid_out.staging"
  fail 77 "it needs $((needed >> 20)) MiB on the disk of Docker's volumes, and $((free >> 20)) MiB are free"
fi

# Barman would file what is complete, which it cannot do here; while another seems to be doing so, it does not.
exec 8>"/tmp/.$server-archive-wal.lock"
flock 8
# Its home is nowhere: it would read more of its configuration from there.
cat >/tmp/barman.conf <<CONF
[barman]
barman_user = postgres
barman_home = /nonexistent
barman_lock_directory = /tmp
log_level = ERROR

[$server]
backup_directory = $home
conninfo = host=/nonexistent user=postgres
streaming_conninfo = host=/nonexistent user=postgres
backup_method = postgres
streaming_archiver = on
slot_name = pgs_backup
CONF
report laying_out
target_options=(--target-tli "$timeline")
if [ -n "$at" ]; then target_options+=(--target-time "$at"); fi
barman --config /tmp/barman.conf -q restore --no-get-wal --partial-wal --target-action promote "${target_options[@]}" \
  --staging-path "$laid_out.staging" --staging-location local "$server" "$backup" "$laid_out" >&2
rm -rf "$laid_out.staging"

# Barman itself takes what is being received only where the timeline has been archived before. What is complete and
# not filed it never takes, and of a stopped tenant it files nothing. The history of each timeline that was ever begun
# is here, so that this restore begins none of the same number.
mkdir -p "$laid_out/barman_wal"
find "$laid_out/barman_wal" -size 0 -delete
for file in "$home"/streaming/* "$home"/wals/*.history /known/"$server"/{streaming,wals}/*.history; do
  name=${file##*/}
  if [[ $name =~ ^([0-9A-F]{24}|[0-9A-F]{8}\.history)$ && -s $file && ! -e $laid_out/barman_wal/$name ]]; then
    cp "$file" "$laid_out/barman_wal/$name"
  fi
done
for partial in "$home"/streaming/"$(printf '%08X' "$timeline")"*.partial; do
  name=$(basename "$partial" .partial)
  if [ -s "$partial" ] && [ ! -e "$laid_out/barman_wal/$name" ]; then cp "$partial" "$laid_out/barman_wal/$name"; fi
done
begin=$(field "$backup" begin_wal)

# Every segment is there: where one is missing, a recovery ends as if that were all there is, or goes on with what the
# tenant has left. Where a timeline begins, the first segment has what came before, so that one is the new timeline's.
# What comes after a gap is no part of an earlier time: recover.sh sees whether that is reached without.
next=$(segment "$begin")
on=$((16#${begin:0:8}))
for tli in "${path[@]}"; do
  if ((tli < on)); then continue; fi
  prefix=$(printf '%08X' "$tli")
  if [ "$tli" = "$timeline" ]; then
    last=$(compgen -G "$laid_out/barman_wal/$prefix????????????????" | sort | tail -n 1 || true)
    # Nothing is there: then the loop below says so.
    if [ -z "$last" ]; then last=$next; else last=$(segment "$(basename "$last")"); fi
  else
    last=$(($(segment_at "${left[$tli]}") - 1))
  fi
  for ((; next <= last; next++)); do
    name=$(printf '%s%08X%08X' "$prefix" $((next / 256)) $((next % 256)))
    if [ -e "$laid_out/barman_wal/$name" ]; then continue; fi
    # Filed meanwhile.
    filed=$home/wals/${name:0:16}/$name
    if cp "$filed" "$laid_out/barman_wal/$name" 2>/dev/null; then continue; fi
    if [ -z "$at" ]; then fail 66 "the WAL has a gap: $name is missing. A restore to a time before it is possible"; fi
    for file in "$laid_out"/barman_wal/*; do
      other=${file##*/}
      if [[ $other =~ ^[0-9A-F]{24}$ ]] && (($(segment "$other") >= next)); then rm "$file"; fi
    done
    printf '%s' "$name" >"$laid_out/barman_wal/.gap"
    break 2
  done
done
# recover.sh sees whether what is here ends where that server was stopped: it is now, or was for a restore in place.
# What was fetched may be of a server elsewhere.
if ((latest > timeline)) || [ -n "$stopped" ]; then
  echo "$timeline" >"$laid_out/barman_wal/.stopped"
fi
if [ -z "$place" ]; then printf '%s %s' "$server" "$at" >"$PGDATA.restored"; fi
