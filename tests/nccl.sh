#!/usr/bin/env bash
# --transport nccl on emulated GPUs, from outside: what it cannot do is refused by name, and whatever
# NCCL does wrong ends the run, with one line about it, whichever rank it happens to.
#   tests/nccl.sh build/emulated/epmoe
set -uo pipefail
epmoe=$(realpath "$1")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export EPMOE_EMULATED_GPUS=9
failed=0

# run ENVIRONMENT options…: exit code in $code, its own lines in $work/stderr
run() {
    local setting=$1
    shift
    env "$setting" timeout 100 "$epmoe" logits -m tests/golden/models/moe-60 --tokens 1,2,3 -t 1 \
        -o "$work/logits" --timeout 5 --device cuda "$@" >/dev/null 2>"$work/all"
    code=$?
    grep '^epmoe: ' "$work/all" >"$work/stderr"
}
expect() { # exit codes, text of the one line, then as run
    local codes=$1 text=$2
    shift 2
    run "$@"
    if ! [[ " $codes " == *" $code "* ]] || [ "$(wc -l <"$work/stderr")" -ne 1 ] ||
        ! grep -q -- "$text" "$work/stderr"; then
        echo "failed: $*: expected exit $codes and \"$text\", found $code and: $(cat "$work/all")"
        failed=$((failed + 1))
    fi
}

run A=B --ranks 3 --transport nccl -v
[ $code -eq 0 ] || { echo "failed: exit $code: $(cat "$work/all")"; exit 1; }
expect 2 'strategy exact, found padded' A=B --ranks 3 --transport nccl --strategy padded
expect 2 'combine rows, found sum' A=B --ranks 3 --transport nccl --combine sum
expect 2 'wire model, found int8' A=B --ranks 3 --transport nccl --wire int8
expect 2 'overlap off, found on' A=B --ranks 3 --transport nccl --overlap on
expect 2 'device cuda for all' A=B --ranks 3 --transport nccl --worker-device cpu
expect 2 'each of 3 ranks, found 2' EPMOE_EMULATED_GPUS=2 --ranks 3 --transport nccl
expect 2 'expected mpirun' A=B --ranks 3 --transport mpi
# 4: a rank was lost, or could not be ended in time
expect 1 'an id for the run' EPMOE_EMULATED_FAIL=ncclGetUniqueId:1 --ranks 3 --transport nccl
for call in ncclCommInitRankConfig:2 ncclAsync:1 ncclAsync:9 ncclSend:1 ncclSend:3 ncclRecv:4 \
    ncclGroupEnd:5; do
    expect '1 4' 'NCCL: ' EPMOE_EMULATED_FAIL=$call --ranks 3 --transport nccl
done
[ $failed -eq 0 ] && echo "nccl: refused and ended as expected"
exit $((failed > 0))
