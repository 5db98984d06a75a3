#!/bin/bash
# Checks licenses, bans and sources of all dependencies with cargo-deny, which this script builds once and keeps.
set -euo pipefail
cd "$(dirname "$0")/.."
. e2e/common.sh
version=0.20.2
root=${BELFRY_CACHE:-$HOME/.cache/belfry}/cargo-deny-$version
if [ ! -x "$root/bin/cargo-deny" ]; then
  say "building cargo-deny $version (once, about 5 minutes)"
  CARGO_TARGET_DIR=$root/build cargo install --quiet --locked --no-default-features --version "$version" --root "$root" cargo-deny
  rm -rf "$root/build"
fi
say "licenses, bans, sources"
"$root/bin/cargo-deny" --log-level error check bans licenses sources
