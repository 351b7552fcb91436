# shellcheck shell=bash
# Removes what a restore in place left beside the current data, which it has not touched.
# Argument: `note` where its note goes as well.
set -euo pipefail
if [ -e "$PGDATA/.pgs-restored" ]; then
  echo "the restored data is in its place already" >&2
  exit 75
fi
# What is called so without this note is no restore's.
if [ -e "$PGDATA.exchange/.pgs-restored" ]; then rm -rf "$PGDATA.exchange"; fi
rm -rf "$PGDATA.restoring" "$PGDATA.restoring.staging"
if [ "${1-}" = note ]; then rm -f /var/lib/postgresql/.pgs-restore; fi
sync
