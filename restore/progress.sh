# shellcheck shell=bash
# For the scripts that may take long, which come after it. Of `tells COMMAND…`, what the command prints is told every
# ten seconds from then on; run-script.ts hands it on.
telling=
tells() {
  if [ -n "$telling" ]; then kill "$telling" 2>/dev/null || true; fi
  while sleep 10; do echo "progress: $("$@")" >&2; done &
  telling=$!
  # Else bash would tell of its end.
  disown
}

mebibytes() { { du -sm "$@" 2>/dev/null || true; } | awk '{ sum += $1 } END { print sum + 0 }'; }
