# Installs what the test bed needs on the machine: missing Debian packages, and the tools that build.sh makes, cached by the hash of
# their inputs. It never upgrades or removes a package.
# shellcheck shell=bash

PACKAGES=(containerd runc containernetworking-plugins iptables nftables conntrack ipset iproute2 openssl)
# For building Belfry: librdkafka's TLS, linked statically.
PACKAGES+=(libssl-dev pkg-config)

# install [PACKAGE...]: installs these packages too, so that only this file calls apt.
install() {
  need_root
  ensure_packages "$@"
  command -v java >/dev/null || die "java is missing: install Java 17 or newer (apt-get install openjdk-17-jre-headless), Kafka runs on it"
  ensure_tools
}

ensure_packages() {
  local wanted=("${PACKAGES[@]}" "$@") package missing=()
  command -v mvn >/dev/null || wanted+=(maven)
  local installed
  installed=" $(dpkg-query -W -f '${Package}:${db:Status-Status} ' "${wanted[@]}" 2>/dev/null || true)"
  for package in "${wanted[@]}"; do
    [[ $installed == *" $package:installed "* ]] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "apt-get is missing: on a system other than Debian, install these yourself: ${missing[*]}"
  local log
  log=$(mktemp -t testbed-apt.XXXXXX)
  patiently "installing ${missing[*]}" "$log" apt_install "${missing[@]}"
  rm -f "$log"
}

apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q && apt-get install -y -q --no-install-recommends "$@"
}

# unpack PACKAGE FILE: unpacks a Debian package into the cache and prints the path of FILE in it. For packages that would start a
# service if they were installed.
unpack() {
  local package=${1:?a package} file=${2:?a file of it} at=$BELFRY_CACHE/unpacked/$1
  if [ ! -e "$at/$file" ]; then
    command -v apt-get >/dev/null || die "apt-get is missing: on a system other than Debian, put $file of $package at $at/$file"
    local folder
    mkdir -p "$BELFRY_CACHE/unpacked"
    folder=$(mktemp -d "$BELFRY_CACHE/unpacked/making.XXXXXX")
    { (cd "$folder" && { apt-get download -q "$package" || { apt-get update -q && apt-get download -q "$package"; }; }) &&
      dpkg-deb -x "$folder/$package"_*.deb "$folder/root" && rm -rf "$at" && mv -T "$folder/root" "$at"; } >&2 ||
      die "$package can't be had"
    rm -rf "$folder"
  fi
  printf '%s\n' "$at/$file"
}

check_builders() {
  local version
  command -v go >/dev/null || die "go is missing: install Go 1.26 (go.dev/doc/install), it builds Kubernetes"
  command -v mvn >/dev/null || die "mvn is missing: install Maven (apt-get install maven), it fetches Kafka"
  version=$(go env GOVERSION)
  [[ $version =~ ^go1\.(2[1-9]|[3-9][0-9]) ]] || die "Go is too old ($version): install Go 1.26"
  version=$(java -version 2>&1 | head -1)
  [[ $version =~ \"(1[7-9]|[2-9][0-9]) ]] || die "Java is too old ($version): install Java 17 or newer"
}

# Sets TOOLS, the folder with bin/ and kafka/, and builds its content if it isn't there.
ensure_tools() {
  local hash cache=$BELFRY_CACHE/testbed
  hash=$(cd "$HERE" && find tools build.sh kafka/pom.xml -type f | LC_ALL=C sort | xargs sha256sum | sha256sum)
  TOOLS=$cache/${hash:0:16}
  [ ! -d "$TOOLS" ] || return 0
  check_builders
  mkdir -p "$cache"
  exec 8<"$cache"
  flock -n 8 || { say "another build is running, waiting for it" && flock 8; }
  if [ ! -d "$TOOLS" ]; then
    rm -rf "$cache"/building.* # left by killed runs: no other build is at work, because we hold the lock
    local building
    building=$(mktemp -d "$cache/building.XXXXXX")
    chmod 755 "$building"
    patiently "building Kubernetes and fetching Kafka (about 8 minutes the first time)" "$cache/build.log" \
      nice "$HERE/build.sh" "$building"
    mv -T "$building" "$TOOLS"
  fi
  exec 8<&-
}

# patiently WHAT LOG CMD...: runs a command with its output in LOG, and prints every 15 s that it still runs.
patiently() {
  local what=$1 log=$2 begun=$SECONDS pid
  shift 2
  say "$what"
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  trap 'kill $pid; exit 130' INT TERM
  while kill -0 $pid 2>/dev/null; do
    sleep 0.2
    if [ $(((SECONDS - begun) % 15)) = 14 ]; then
      say "  ... still $what: $((SECONDS - begun + 1)) s"
      sleep 1
    fi
  done
  wait $pid || {
    tail -5 "$log" >&2
    die "$what failed; all of it: $log"
  }
  trap - INT TERM
  say "  done in $((SECONDS - begun)) s"
}
