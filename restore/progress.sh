# shellcheck shell=bash
# For the scripts that may take long, which come after it. `report COMMAND…` prints every ten seconds from then on what
# the command prints; run-script.ts passes it on.
reporter=
report() {
  if [ -n "$reporter" ]; then kill "$reporter" 2>/dev/null || true; fi
  while sleep 10; do echo "progress: $("$@")" >&2; done &
  reporter=$!
  # Otherwise bash would print its end.
  disown
}

mebibytes() { { du -sm "$@" 2>/dev/null || true; } | awk '{ sum += $1 } END { print sum + 0 }'; }
