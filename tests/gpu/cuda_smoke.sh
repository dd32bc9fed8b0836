#!/usr/bin/env bash
# A build with the CUDA Toolkit where there is no GPU, or none is shown: it starts, says so, runs on
# the processor, and refuses --device cuda in one line.   tests/gpu/cuda_smoke.sh build/cuda/epmoe
set -uo pipefail
epmoe=$(realpath "$1")
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CUDA_VISIBLE_DEVICES=
complain() {
    echo "cuda_smoke: $1"
    exit 1
}
run=(timeout 60 "$epmoe" run -m tests/golden/models/moe-60 --tokens 3,14,15 -n 4 --temp 0 --ignore-eos --ids)

timeout 60 "$epmoe" --version >"$work/version" || complain "--version: exit $?"
timeout 60 "$epmoe" doctor >"$work/report" || complain "doctor: exit $?"
grep -qE '^missing +CUDA +built for sm_80 sm_90; no GPU found' "$work/report" ||
    complain "doctor says: $(grep CUDA "$work/report")"

"${run[@]}" >"$work/ids" 2>"$work/stderr" || complain "on the processor: $(cat "$work/stderr")"
[ "$(wc -w <"$work/ids")" -eq 4 ] || complain "expected 4 ids, found $(cat "$work/ids")"

"${run[@]}" --device cuda >"$work/ids" 2>"$work/stderr"
[ $? -eq 2 ] || complain "--device cuda: expected exit 2, found: $(cat "$work/stderr")"
[ "$(wc -l <"$work/stderr")" -eq 1 ] && grep -q 'no GPU found' "$work/stderr" ||
    complain "--device cuda: expected one line, found: $(cat "$work/stderr")"

echo "cuda_smoke: passed"
