#!/bin/sh
# Flags alone, or a subcommand of Traefik, are meant for Traefik; anything else
# is a command of its own. So the official image takes its arguments, too.
set -e
case ${1:-} in
  '' | -*) set -- traefik "$@" ;;
  healthcheck | version) set -- traefik "$@" ;;
esac
exec "$@"
