#!/bin/bash
# Writes the committed files that are generated from the code (.gitattributes lists them): the CustomResourceDefinitions
# (crds/yaml, which the chart links to), docs/fields.md, and the snapshots beside the tests that compare them. `git diff` shows
# what changed: read it before you keep it. Outputs of a cluster (e2e/tests/line/golden) are written by UPDATE_GOLDEN=1 e2e/one.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
. e2e/common.sh
need_compilers
have_openssl || die "$no_openssl"
say "definitions, the page of all fields"
cargo build --locked --quiet --workspace --example generate
"$(target_dir)/debug/examples/generate"
say "snapshots"
INSTA_UPDATE=always tests --lib --no-fail-fast || say "a test fails; the snapshots are written all the same"
git --no-pager diff --stat -- crds/yaml docs/fields.md '*.snap'
say "done"
