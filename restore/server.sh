# shellcheck shell=bash
# For recover.sh and check.sh, which come after it. The data is a tenant's: its server loads no library and runs no
# command that the data names, and connections are the script's alone.
export PGOPTIONS=""

# Arguments: the data directory; the log; options for the server, as `NAME=VALUE` without spaces.
start_server() {
  local data=$1 log=$2 options="" option
  shift 2
  printf 'local all all trust\n' >/tmp/pg_hba.conf
  : >/tmp/pg_ident.conf
  for option in "$@" {shared,session,local}_preload_libraries= archive_mode=off archive_{command,library}= \
    {archive_cleanup,recovery_end,ssl_passphrase}_command= primary_conninfo= primary_slot_name= \
    listen_addresses= unix_socket_directories=/tmp \
    ssl=off logging_collector=off log_destination=stderr shared_buffers=128MB; do
    options+=" -c $option"
  done
  options+=" -c hba_file=/tmp/pg_hba.conf -c ident_file=/tmp/pg_ident.conf"
  options+=" -c restore_command='cp \"barman_wal/%f\" \"%p\"'"
  # Settings of a role or a database would come before the server's own.
  PGOPTIONS="-c search_path=pg_catalog -c session_preload_libraries= -c local_preload_libraries="
  PGOPTIONS+=" -c statement_timeout=0 -c lock_timeout=0 -c default_transaction_read_only=off"
  if (($(head -c 2 "$data/PG_VERSION") >= 17)); then PGOPTIONS+=" -c event_triggers=off"; fi
  pg_ctl --pgdata "$data" --wait --timeout 86400 --silent --log "$log" --options "$options" start || return 1
  until pg_isready --quiet --host /tmp; do
    pg_ctl --pgdata "$data" status >/dev/null || return 1
    sleep 0.1
  done
}
