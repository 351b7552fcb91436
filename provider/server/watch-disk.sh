#!/bin/sh
# Watches how much room a tenant's volume takes, and how much its Docker host has left, beside the server. Where either
# runs short, the server's sessions become read-only by default, which spares what a tenant needs to make room: a session
# may still ask for a transaction that writes. When there is room again, so may all. docs/disks.md has the rules.
#   watch-disk      the server's start-server starts it; a second one ends at once
set -u
data=/var/lib/postgresql
folder=/var/run/postgresql

# Where the tenant has taken all processes, a shell that cannot fork ends. What follows needs no other process.
trap 'exec perl -e "sleep 5; exec @ARGV" "$0"' EXIT

exec 8>"$folder/.pgs-disk.lock"
flock --nonblock 8 || {
  trap - EXIT
  exit 0
}

# Sessions as the provider's are: nothing that the tenant has set for them counts (docker/session-options.ts).
options="-c statement_timeout=10s -c lock_timeout=5s -c default_transaction_read_only=off -c search_path=pg_catalog"
options="$options -c log_statement=none -c log_min_duration_statement=-1 -c role=none -c session_preload_libraries= -c local_preload_libraries="
[ "${PG_MAJOR:-0}" -lt 17 ] || options="$options -c event_triggers=off -c transaction_timeout=0"

# The database postgres is the tenant's to drop, and a tenant may take all connections: those of replication are others.
run_sql() {
  for way in "dbname=postgres" "dbname=template1" "dbname=postgres replication=database"; do
    printf '%s\n' "$1" | PGOPTIONS=$options PGAPPNAME=pgs PGHOST=$folder PGCONNECT_TIMEOUT=10 timeout -k 5 20 \
      psql --no-psqlrc --quiet --tuples-only --no-align --username postgres --set ON_ERROR_STOP=1 --file - \
      --dbname "$way" >/dev/null 2>&1 && return
  done
  return 1
}

# `yes` is this program's word: settings that are written by others say on or true (parts/settings.ts knows it too). The
# reason is for who asks the server: SHOW pgs.read_only. Before PostgreSQL 17, the file takes only what the session knows.
read_only() {
  echo "SET pgs.read_only = ''; ALTER SYSTEM SET pgs.read_only = '$1'; ALTER SYSTEM SET default_transaction_read_only = 'yes';"
}
writable="SET pgs.read_only = ''; ALTER SYSTEM RESET default_transaction_read_only; ALTER SYSTEM RESET pgs.read_only;"
# The postmaster reads its files a moment after the signal, its sessions after that.
reload="SELECT pg_reload_conf(); SELECT pg_sleep(0.3);"
# A transaction that has begun goes on as it began, so those that write end. One that waits for its client cannot be cancelled.
end_writers="SELECT CASE state WHEN 'active' THEN pg_cancel_backend(pid) ELSE pg_terminate_backend(pid) END
  FROM pg_stat_activity WHERE backend_type = 'client backend' AND backend_xid IS NOT NULL AND pid <> pg_backend_pid();"

# Sets: budget, of the volume in bytes, 0 without one; setting, the default for transactions as the file has it.
read_settings() {
  budget='' setting=''
  while read -r line; do
    case $line in
      "pgs.disk = '"*) budget=${line#*\'} budget=${budget%%\'*} ;;
      "default_transaction_read_only = '"*) setting=${line#*\'} setting=${setting%%\'*} ;;
    esac
  done <"$PGDATA/postgresql.auto.conf"
  case $budget in '' | *[!0-9]* | ????????????????*) budget=0 ;; esac
} 2>/dev/null

most=1 start=''
while :; do
  read -r begun _ </proc/uptime
  # Files that end while they are counted are no error.
  used=$(du -sx --block-size=1 "$data" 2>/dev/null)
  used=${used%%[!0-9]*} used=${used:-0}
  read -r counted _ </proc/uptime
  room=$(stat --file-system --format '%a %S %b' "$data" 2>/dev/null)
  blocks=${room%% *} room=${room#* } unit=${room%% *} total=${room##* }
  free=$((${blocks:-0} * ${unit:-0})) size=$((${total:-0} * ${unit:-0}))
  read_settings

  # The host's reserve: of a small file system, a twentieth. A budget is a right to its room: who has one may use half of it.
  reserve=0
  [ ! -r /pgs/disk-reserve ] || read -r reserve </pgs/disk-reserve
  [ "$reserve" -le $((size / 20)) ] || reserve=$((size / 20))
  [ "$budget" -eq 0 ] || reserve=$((reserve / 2))
  # What is left until sessions become read-only, and behind each of the other lines, is negative where it is crossed.
  left=$((free - reserve))
  back=$((free - reserve - reserve / 10))
  over=$((free - reserve / 2))
  why=host
  if [ "$budget" -gt 0 ] && [ $((budget * 95 / 100 - used)) -lt "$left" ]; then
    why=budget
    left=$((budget * 95 / 100 - used))
  fi
  if [ "$budget" -gt 0 ]; then
    [ $((budget * 90 / 100 - used)) -ge "$back" ] || back=$((budget * 90 / 100 - used))
    # Deleting takes room first, for the log of it: a fifth more than there was when the sessions became read-only.
    if [ "$setting" != yes ]; then start=''; elif [ "${start:-$used}" -ge "$used" ]; then start=$used; fi
    beyond=$((${start:-$used} + budget / 5 - used))
    [ "$beyond" -ge $((budget * 110 / 100 - used)) ] || beyond=$((budget * 110 / 100 - used))
    [ "$beyond" -ge "$over" ] || over=$beyond
  fi

  if [ "$left" -lt 0 ]; then
    case $setting in
      # A session overrides it, and goes on.
      yes) [ "$over" -ge 0 ] || run_sql "$end_writers" ;;
      on | true | 1) ;;
      *)
        if run_sql "$(read_only "$why") $reload $end_writers"; then
          setting=yes
          echo "pgs: read-only, as the $why runs short: $used of $budget bytes used, $free free on the host"
        fi
        ;;
    esac
  elif [ "$setting" = yes ] && [ "$back" -ge 0 ]; then
    if run_sql "$writable $reload"; then
      setting=''
      echo "pgs: writable again: $used of $budget bytes used, $free free on the host"
    fi
  fi

  # For `./pgs list`, plans and metrics. Not in the volume: it would be written to for ever.
  state=writable
  [ "$setting" != yes ] || state="read-only:$why"
  echo "$used $budget $free $size $state" >"$folder/.pgs-disk"

  # The nearer, the sooner: a disk takes some hundred megabytes in a second. Counting takes a twentieth of the time at most.
  seconds=$((left / 268435456))
  if [ "$setting" = yes ] && [ "$over" -ge 0 ]; then seconds=3; fi
  # A new server soon gets its budget.
  [ "$most" -ge 30 ] || most=$((most + 2))
  [ "$seconds" -le "$most" ] || seconds=$most
  [ "$seconds" -ge 1 ] || seconds=1
  # Hundredths of a second, as the kernel writes them.
  took=$((${counted%.*}${counted#*.} - ${begun%.*}${begun#*.}))
  [ "$seconds" -ge $((took / 5)) ] || seconds=$((took / 5))
  [ "$seconds" -le 300 ] || seconds=300
  sleep "$seconds"
done
