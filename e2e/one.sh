#!/bin/bash
# Runs end-to-end tests by name on the test bed's cluster "dev". Starts the cluster if it isn't up, installs Belfry again if the
# code changed, and leaves the cluster running.
# usage: one.sh NAME      Runs all tests of e2e/tests/line whose names contain NAME, or, if there are none, those of e2e/tests/faults.
# UPDATE_GOLDEN=1 overwrites the files of e2e/tests/line/golden that these tests compare.
set -euo pipefail
cd "$(dirname "$0")/.."
. e2e/common.sh
name=${1:-}
[ -n "$name" ] || die "which test? make e2e TEST=NAME, where NAME is a part of a name of a test"
[ -z "${BELFRY_IMAGE:-}" ] || die "this is for the test bed's cluster; on a cluster of yours run BELFRY_TESTS=e2e make test"
need_compilers
need_openssl
export BELFRY_TESTS_TOO=1

say "building"
build
tests --test line --test faults --no-run
for suite in line faults; do
  found=$(tests --test "$suite" -- --list | sed -n 's/: test$//p' | grep -F -- "$name" || true)
  [ -z "$found" ] || break
done
[ -n "$found" ] || die "no test in e2e/tests has '$name' in its name"

unset KUBECONFIG
"$testbed" install python3 python3-aiosmtpd jq
"$testbed" up dev >/dev/null
eval "$("$testbed" env dev)"
# New receivers, built from the code as it is now, which have received nothing yet.
for title in sink smtp smtps tokens; do "$testbed" stop dev "$title"; done
rm -f "$TESTBED"/receivers/*.jsonl
prepare dev "$suite" --if-changed
export RECEIVED=$TESTBED/receivers
await_ports 8080 8090 2525 2526 9097

say "$suite: $(tr '\n' ' ' <<<"$found")"
threads=1 # the tests of `faults` break things one at a time
[ "$suite" != line ] || threads=${BELFRY_THREADS:-3}
tests --test "$suite" -- --test-threads="$threads" "$name"
say "done; cluster dev stays: eval \"\$(e2e/testbed/testbed env dev)\", then kubectl. make cluster-down ends it"
