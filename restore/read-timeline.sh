# shellcheck shell=bash
# Prints the timeline that recovered data began, as 00000002, and its history in base64.
set -euo pipefail
history=$(compgen -G "$PGDATA/pg_wal/????????.history" | sort | tail -n 1)
echo "$(basename "$history" .history) $(base64 -w0 "$history")"
