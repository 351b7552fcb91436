# shellcheck shell=bash
# Runs in Barman's container, before a server starts on data that was restored from its own backups: what was streamed
# of the timeline that it left is complete now, and the new one is received from where it begins.
# Arguments: Barman's name of the tenant; the new timeline, as 00000002; its history, in base64.
set -euo pipefail
server=$1 timeline=$2 history=$3
cd "/var/lib/barman/$server" 2>/dev/null || exit 0
mkdir -p streaming
# Done before, and the tenant may have been at work since.
if compgen -G "streaming/$timeline????????????????*" >/dev/null || compgen -G "wals/${timeline}[0-9A-F]*" >/dev/null; then exit 0; fi
barman -q receive-wal --stop "$server" >/dev/null 2>&1 || true
for partial in streaming/*.partial; do
  if [ -s "$partial" ]; then mv "$partial" "${partial%.partial}"; else rm -f "$partial"; fi
done
# Its time says from when on the timeline was the tenant's.
base64 -d <<<"$history" >streaming/.history.tmp
mv streaming/.history.tmp "streaming/$timeline.history"
touch "/var/lib/barman/servers.d/$server.due"
where=$(base64 -d <<<"$history" | grep -E '^[0-9]+[[:space:]]' | tail -n 1 | cut -f2)
position=$(((16#${where%/*} << 32) | 16#${where#*/}))
number=$((position >> 24))
# An empty one is where pg_receivewal goes on from. It comes last: with it, all of this was done.
: >"streaming/$timeline$(printf '%08X%08X' $((number / 256)) $((number % 256))).partial"
barman -q archive-wal "$server" >/dev/null 2>&1 || true
