#!/bin/bash
# Makes the data directory on the first start, then becomes the server.
# Variables and behaviour are those that the official image documents.
set -euo pipefail

fail() { printf 'docker-entrypoint: %s\n' "$*" >&2; exit 1; }
note() { printf 'docker-entrypoint: %s\n' "$*"; }

# NAME or the content of the file that NAME_FILE names, else a default.
from_env_or_file() {
  local name=$1 default=${2:-} file_var="$1_FILE" value
  if [[ -n ${!name:-} && -n ${!file_var:-} ]]; then
    fail "both $name and $file_var are set; set one of them."
  fi
  if [[ -n ${!file_var:-} ]]; then
    value=$(<"${!file_var}")
  else
    value=${!name:-$default}
  fi
  export "$name=$value"
  unset "$file_var"
}

wants_only_information() {
  local arg
  for arg; do
    case $arg in
      -\? | --help | --describe-config | -V | --version) return 0 ;;
      -C) return 0 ;;
    esac
  done
  return 1
}

make_directories() {
  mkdir -p "$PGDATA"
  # Neither is ours to change when an operator mounted it with an owner of its own.
  chmod 0700 "$PGDATA" 2>/dev/null || true
  mkdir -p /var/run/postgresql 2>/dev/null || true
  chmod 3775 /var/run/postgresql 2>/dev/null || true
  if [[ -n ${POSTGRES_INITDB_WALDIR:-} ]]; then
    mkdir -p "$POSTGRES_INITDB_WALDIR"
    chmod 0700 "$POSTGRES_INITDB_WALDIR"
  fi
  if [[ $EUID -eq 0 ]]; then
    local dir
    for dir in "$PGDATA" /var/run/postgresql ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"}; do
      find "$dir" \! -user postgres -exec chown postgres '{}' +
    done
  fi
}

refuse_old_layout() {
  local old
  for old in /var/lib/postgresql /var/lib/postgresql/data; do
    if [[ $PGDATA != "$old" && -s $old/PG_VERSION ]]; then
      fail "$old holds a database of PostgreSQL $(<"$old/PG_VERSION"), but this image keeps its data in $PGDATA. Mount a volume at /var/lib/postgresql and move the data with pg_upgrade or pg_dump; nothing was changed."
    fi
  done
}

check_first_start() {
  if [[ -z $POSTGRES_PASSWORD && $POSTGRES_HOST_AUTH_METHOD != trust ]]; then
    fail "the data directory is empty and there is no superuser password. Set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE."
  fi
}

make_data_directory() {
  local -a args=("--username=$POSTGRES_USER" "--pwfile=/dev/fd/3")
  if [[ -n ${POSTGRES_INITDB_WALDIR:-} ]]; then
    args+=("--waldir=$POSTGRES_INITDB_WALDIR")
  fi
  # Word splitting is what POSTGRES_INITDB_ARGS is documented to do; eval keeps quotes.
  eval "initdb \"\${args[@]}\" ${POSTGRES_INITDB_ARGS:-}" 3< <(printf '%s\n' "$POSTGRES_PASSWORD")
  printf '\nhost all all all %s\n' "$POSTGRES_HOST_AUTH_METHOD" >>"$PGDATA/pg_hba.conf"
}

# On the socket only, so that nobody takes it for the finished server.
start_private_server() {
  if [[ ${1:-} == postgres ]]; then shift; fi
  set -- "$@" -c listen_addresses='' -p "${PGPORT:-5432}"
  NOTIFY_SOCKET='' pg_ctl -D "$PGDATA" -w -o "$(printf '%q ' "$@")" start
}

stop_private_server() { pg_ctl -D "$PGDATA" -m fast -w stop; }

# `docker_process_sql` is the name that init scripts written for the official image call.
docker_process_sql() {
  local -a args=(-v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --no-password --no-psqlrc)
  if [[ -n $POSTGRES_DB ]]; then args+=(--dbname "$POSTGRES_DB"); fi
  PGHOST='' PGHOSTADDR='' psql "${args[@]}" "$@"
}

make_database() {
  local found db=$POSTGRES_DB
  found=$(POSTGRES_DB='' docker_process_sql --dbname postgres -At --set db="$db" <<<"SELECT 1 FROM pg_database WHERE datname = :'db'")
  if [[ -z $found ]]; then
    POSTGRES_DB='' docker_process_sql --dbname postgres --set db="$db" <<<'CREATE DATABASE :"db"'
  fi
}

run_init_files() {
  local file
  for file in /docker-entrypoint-initdb.d/*; do
    [[ -e $file ]] || continue
    note "$file"
    case $file in
      *.sh)
        if [[ -x $file ]]; then "$file"; else
          # shellcheck disable=SC1090 # named by the operator at run time
          source "$file"
        fi
        ;;
      *.sql) docker_process_sql -f "$file" ;;
      *.sql.gz) gunzip -c "$file" | docker_process_sql ;;
      *.sql.xz) xzcat "$file" | docker_process_sql ;;
      *.sql.zst) zstd -dc "$file" | docker_process_sql ;;
      *) note "ignored: not .sh, .sql, .sql.gz, .sql.xz or .sql.zst" ;;
    esac
  done
}

first_start() {
  refuse_old_layout
  check_first_start
  # Fails before anything is made when a script cannot be read.
  ls /docker-entrypoint-initdb.d/ >/dev/null
  make_data_directory
  export PGPASSWORD=$POSTGRES_PASSWORD
  start_private_server "$@"
  make_database
  run_init_files
  stop_private_server
  unset PGPASSWORD
  note "the database is made; the server starts."
}

main() {
  if [[ ${1:-} == -* ]]; then set -- postgres "$@"; fi
  if [[ ${1:-} == postgres ]] && ! wants_only_information "$@"; then
    make_directories
    if [[ $EUID -eq 0 ]]; then exec gosu postgres "${BASH_SOURCE[0]}" "$@"; fi
    from_env_or_file POSTGRES_PASSWORD
    from_env_or_file POSTGRES_USER postgres
    from_env_or_file POSTGRES_DB "$POSTGRES_USER"
    from_env_or_file POSTGRES_INITDB_ARGS
    export POSTGRES_HOST_AUTH_METHOD=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    # The official build's socket is in /var/run/postgresql; this build's own
    # clients look in /tmp. First in line, so that an operator's -c wins.
    set -- postgres -c 'unix_socket_directories=/var/run/postgresql, /tmp' "${@:2}"
    # initdb writes PG_VERSION early, and empties the directory when it fails or
    # is told to stop: only a power cut or a kill -9 leaves a half-made one.
    if [[ -s $PGDATA/PG_VERSION ]]; then
      note "$PGDATA holds a database already; initialisation is skipped."
    else
      first_start "$@"
    fi
  fi
  exec "$@"
}

# Init scripts may source this file for its functions.
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then main "$@"; fi
