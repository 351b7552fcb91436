# shellcheck shell=bash disable=SC2034 # the sourcing scripts use these variables
# What every script of the toolchain shares. The sourcing script sets `root`, the
# checkout. Kept to what bash 3.2 knows: that is the bash of macOS.

: "${root:?set by the sourcing script}"
# Timers and hooks often have no HOME; the shell still knows it.
export HOME=${HOME:-$(printf "%s" ~)}
cache=${PGS_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/pgs}
[[ $cache == /* ]] || cache=$PWD/$cache
state_dir=$root/.pulumi-state
# The Pulumi home of self-built parts: apart from the user's own, so that their
# other projects never meet them.
built_home=$cache/pulumi-home

# --- messages: all on stderr, because `./pgs env` is read from stdout ---

color() { [[ -t 2 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; }
say() { printf '%s\n' "$*" >&2; }
good() { if color; then printf '\033[32m✓\033[0m %s\n' "$*" >&2; else printf '✓ %s\n' "$*" >&2; fi; }
die() {
  if color; then printf '\033[31mpgs:\033[0m %s\n' "$*" >&2; else printf 'pgs: %s\n' "$*" >&2; fi
  exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# --- the system ---

may_install() {
  [[ $EUID -eq 0 ]] && has apt-get && [[ -r /etc/os-release ]] &&
    grep -qE '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release
}

apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update
  apt-get install -y --no-install-recommends "$@"
}

# logged COMMAND…: runs it with its output in the log; how it ended is in logged_status.
# Not for use as `if logged …`: bash would ignore `set -e` in everything below it.
logged() {
  set +e
  (
    set -e
    "$@"
  ) >>"$cache/logs/setup.log" 2>&1 </dev/null
  logged_status=$?
  set -e
}

# step TITLE COMMAND…: runs it with its output in a log, and shows how long it takes.
step() {
  local title=$1 log=$cache/logs/setup.log started=$SECONDS ticker=
  shift
  printf '\n== %s: %s\n' "$(date '+%F %T')" "$title" >>"$log"
  local from
  from=$(wc -l <"$log")
  if color; then
    (
      while kill -0 $$ 2>/dev/null; do
        printf '\r\033[K  %s … %d s' "$title" $((SECONDS - started)) >&2
        sleep 1
      done
    ) 9>&- &
    ticker=$!
    tickers=$ticker
  else
    say "  $title …"
  fi
  logged "$@"
  if [[ -n $ticker ]]; then
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    tickers=
    printf '\r\033[K' >&2
  fi
  step_said=$(tail -n +"$((from + 1))" "$log" | grep -v '^[[:space:]]*$' || true)
  if [[ $logged_status -eq 0 ]]; then good "$title: done in $((SECONDS - started)) s"; fi
}

# Like step, but a failure ends the set-up: with the end of what was said, and what to do next.
must() {
  local next=$1
  shift
  step "$@"
  [[ $logged_status -eq 0 ]] && return
  # Some tools say the reason first, others last.
  if [[ $(wc -l <<<"$step_said") -le 20 ]]; then
    say "$step_said"
  else
    say "$(head -n 6 <<<"$step_said")"
    say "…"
    say "$(tail -n 12 <<<"$step_said")"
  fi
  die "$1 failed (log: $cache/logs/setup.log). $next"
}

# What a step shows while it lasts ends with the script.
tickers=
clean_up() { [[ -z $tickers ]] || kill "$tickers" 2>/dev/null || true; }
interrupted() {
  printf '\n' >&2
  say "Interrupted; run it again and it goes on from here."
  exit 130
}

# One set-up at a time: they share the cache. Descriptor 9 holds the lock.
take_lock() {
  has flock || return 0
  exec 9>"$cache/lock"
  if ! flock -n 9; then
    say "Another set-up is running on this machine; waiting for it."
    flock 9
  fi
}

# --- versions, each from the one file that pins it ---

package_json=$(<"$root/package.json")
pulumi_yaml=$(<"$root/Pulumi.yaml")

# npm_version NAME: the version of an npm package that package.json pins.
npm_version() {
  local pattern="\"$1\": *\"([0-9][^\"]*)\""
  [[ $package_json =~ $pattern ]] || die "package.json pins no exact version of $1."
  printf '%s' "${BASH_REMATCH[1]}"
}

# image KEY: the default image of that key in Pulumi.yaml, `proxy` or a PostgreSQL major version.
image() {
  local pattern=$'\n'" +\"?$1\"?: +([a-z0-9./_-]+:[A-Za-z0-9._-]+)"
  [[ $pulumi_yaml =~ $pattern ]] || die "Pulumi.yaml has no default image for $1."
  printf '%s' "${BASH_REMATCH[1]}"
}

# The PostgreSQL major versions that Pulumi.yaml has a default image for, one a line.
postgres_majors() {
  local rest=$pulumi_yaml pattern=$'\n'' +"?([0-9]+)"?: +[a-z0-9./_-]+:'
  while [[ $rest =~ $pattern ]]; do
    printf '%s\n' "${BASH_REMATCH[1]}"
    rest=${rest#*"${BASH_REMATCH[0]}"}
  done
}

default_images() {
  local major
  image proxy
  printf '\n'
  for major in $(postgres_majors); do image "$major"; printf '\n'; done
  image barman
  printf '\n'
  image pooler
  printf '\n'
}

monitoring_images() {
  local key
  for key in prometheus exporter alertmanager; do image "$key"; printf '\n'; done
}

cli_version=$(npm_version pulumi)
plugin_names='docker random tls'
plugin_version() { npm_version "@pulumi/$1"; }

sha256() { if has sha256sum; then sha256sum; else shasum -a 256; fi | cut -c1-64; }

# --- the two roads ---

# The road that was chosen before or is forced: official, registries, or empty while unknown.
chosen_road() {
  local road=${PGS_ROAD:-}
  if [[ -z $road && -r $cache/road ]]; then road=$(<"$cache/road"); fi
  case $road in
    official | registries | '') printf '%s' "$road" ;;
    *) die "PGS_ROAD is '$road'; it may be official or registries." ;;
  esac
}

# `./pgs env` of this or another checkout may be in the environment already. What
# it set is not the user's own: PGS_ENV, its checkout, tells the two apart.
forgotten=()
forget() { unset "$1"; forgotten+=("$1"); }
forget_own_environment() {
  [[ -n ${PGS_ENV:-} ]] || return 0
  if [[ ${PULUMI_HOME:-} == "${PGS_ENV_HOME:-}" ]]; then forget PULUMI_HOME; fi
  if [[ -n ${PGS_USER_HOME:-} ]]; then export PULUMI_HOME=$PGS_USER_HOME; fi
  if [[ ${PULUMI_BACKEND_URL:-} == "file://$PGS_ENV/.pulumi-state"* ]]; then forget PULUMI_BACKEND_URL; fi
  if [[ ${PULUMI_CONFIG_PASSPHRASE_FILE:-} == "$PGS_ENV/.pulumi-state/passphrase" ]]; then
    forget PULUMI_CONFIG_PASSPHRASE_FILE
  fi
  unset PGS_ENV PGS_ENV_HOME PGS_USER_HOME
}

# The home that Pulumi looks in is the one that the system has of this user. HOME may be another: in a CI job's container,
# or after a sudo that keeps it.
home_of_user() {
  local home='' name
  if has getent; then
    IFS=: read -r _ _ _ _ _ home _ < <(getent passwd "$UID") || true
  elif name=$(id -un 2>/dev/null) && [[ $name =~ ^[A-Za-z0-9._-]+$ ]]; then
    eval "home=~$name"
    [[ $home == /* ]] || home=
  fi
  printf '%s' "${home:-$HOME}"
}
system_home=$(home_of_user)
user_home() { printf '%s' "${PULUMI_HOME:-$system_home/.pulumi}"; }

home_of_road() {
  if [[ $1 == registries ]]; then printf '%s' "$built_home"; else user_home; fi
}
