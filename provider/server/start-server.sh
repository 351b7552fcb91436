#!/bin/sh
# Starts a tenant's PostgreSQL server. The first program of its container.
#   start-server [--adopted] postgres
#   --adopted   the data was made by a server that was not pgs's
set -eu
data=/var/lib/postgresql
sockets=$data/.sockets
adopted=false
if [ "$1" = --adopted ]; then
  adopted=true
  shift
fi

# Two servers on one volume would destroy its data, and PostgreSQL sees no process of another container. The kernel holds
# this lock as long as any process of this container lives.
exec 9>"$data/.in-use"
flock --nonblock 9 || {
  echo "another container uses this volume" >&2
  exit 1
}

# The server that made an adopted volume's data does not know that lock. The note says that the check was passed once: from
# then on, what a crash leaves is this server's own.
note=$data/.pgs-adopted
if [ "$adopted" = true ] && [ ! -e "$note" ]; then
  if [ -e "$PGDATA/postmaster.pid" ] || [ ! -s "$PGDATA/PG_VERSION" ]; then
    echo "the volume's data is in use by another server, was not stopped cleanly, or is not in $PGDATA" >&2
    exit 1
  fi
  : >"$note"
  sync "$note"
fi

# The image keeps a data directory for good as soon as initdb has begun to fill it. Here one counts when the tenant's
# database in it is complete, which is when the provider removes this note (parts/database.ts): until then nobody knows a
# password, and each start begins from nothing. A restart that the provider needs for settings is none of these: the note
# then has a text.
unfinished=$PGDATA.unfinished
if [ -e "$unfinished" ] && [ ! -s "$unfinished" ]; then rm -rf "$PGDATA"; fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  mkdir -p "$(dirname "$unfinished")"
  : >"$unfinished"
  sync "$(dirname "$unfinished")"
fi

# Which data this is, for its backups: a volume that is made again has another id, what is restored into it has not. It is
# beside the data directory, so that no backup has it.
id=$data/.volume-id
if [ ! -s "$id" ]; then
  cat /proc/sys/kernel/random/uuid >"$id.new"
  sync "$id.new"
  mv "$id.new" "$id"
fi

# The tenant's backup container has this volume too, and reaches the server by the socket in it. On the command line, no
# setting of the tenant's overrides it. /tmp is where programs of some builds look.
mkdir -p "$sockets"
chmod 0700 "$sockets"
rm -f "$sockets"/.s.PGSQL.*

# A child of the server's from here on. It ends with the container.
if [ -x /pgs/watch-disk ]; then /pgs/watch-disk </dev/null & fi
exec docker-entrypoint.sh "$@" -c "unix_socket_directories=/var/run/postgresql,/tmp,$sockets" -c "listen_addresses=*"
