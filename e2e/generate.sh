#!/bin/bash
# Writes anew what is made from the code and committed, as .gitattributes lists it: the definitions (crds/yaml, which the
# chart links to), docs/fields.md, and the snapshots beside the tests that compare them. `git diff` shows what changed:
# read it before you keep it. What only a cluster can tell (e2e/tests/line/golden) is written by UPDATE_GOLDEN=1 e2e/one.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
. e2e/common.sh
need_compilers
have_openssl || die "$no_openssl"
say "definitions, the page of all fields"
cargo build --locked --quiet --workspace --example generate
"$(target_dir)/debug/examples/generate"
say "snapshots"
INSTA_UPDATE=always tests --lib --no-fail-fast || say "a test fails: what was to be written is written all the same"
git --no-pager diff --stat -- crds/yaml docs/fields.md '*.snap'
say "done"
