#!/usr/bin/env bash
# EPMOE_TEST_ONLY (tests/rig/only.h): a value that nobody knows is refused, and a test program that is to
# run on a GPU only, and finds none, says so and exits with 77.
#   tests/gpu/only.sh TEST…     test programs that honour it
set -uo pipefail
failures=0

expect() { # what code text command…
    local what=$1 code=$2 text=$3 said rc
    shift 3
    said=$("$@" 2>&1)
    rc=$?
    [ $rc -eq "$code" ] && [[ $said == *"$text"* ]] && return
    printf '%s: expected exit code %s and "%s", found %s: %s\n' "$what" "$code" "$text" $rc "$said"
    failures=$((failures + 1))
}

for program in "$@"; do
    name=${program##*/}
    expect "$name, an unknown value" 2 "EPMOE_TEST_ONLY: expected cuda, found gpu" \
        env EPMOE_TEST_ONLY=gpu "$program"
    expect "$name, no GPU" 77 "skipped: EPMOE_TEST_ONLY=cuda, and no GPU here" \
        env EPMOE_TEST_ONLY=cuda EPMOE_EMULATED_GPUS=0 CUDA_VISIBLE_DEVICES= "$program"
done
[ $failures -eq 0 ] && echo "only: $# programs refuse and skip as they should"
exit $((failures > 0))
