#!/usr/bin/env bash
# tests/gpu_bench with a tiny shape: each phase beside its roof, a decision for each choice, and the
# kernels that a profiler is told of are those that run. On the emulation times mean nothing.
#   tests/gpu/gpu_bench.sh build/emulated/tests/gpu_bench
set -uo pipefail
bench=$(realpath "$1")
cd "$(dirname "$0")/../.."
. tests/rig/results.sh
run() {
    timeout 300 "$bench" --tiny "$@" >"$work/out" 2>"$work/stderr"
}
has() { # pattern
    grep -qE -- "$1" "$work/out"
    result $? "expected a line \"$1\", found: $(cat "$work/out")"
}

run
status=$?
if [ $status -eq 77 ]; then
    echo "skipped: $(cat "$work/out")"
    exit 77
fi
result $status "the phases: exit code $status: $(cat "$work/out")"
for phase in 'combine, norm' 'q k v' 'rope, KV append' attention o norm router 'route, sort' \
    'experts and shared' shared experts 'all of these, in order' logits 'best token'; do
    has "^\| $phase \| [0-9]+ \| [0-9.]+ \| [0-9.e+-]+ \| [0-9.e+-]+ \| [0-9.]+ \| [0-9]+ % \|$"
done
has '^\| a kernel in a graph(, early)? \| 0 \| [0-9.]+ \|'
has '^What the phases cannot add up to: .* started and waited for, [0-9.]+ us$'
has '^decision: routed experts, .*: (take|keep) '

run --variants
result $? "the variants: exit code $?: $(cat "$work/out")"
for what in 'the shared expert in prefill' 'prefetch to L2' 'routed experts, [0-9]+ rows, even'; do
    has "^decision: $what: (take|keep) .* \([0-9.]+ us and [0-9.]+ us, noise [0-9.]+ % and [0-9.]+ %\)$"
done
has '^decision: early launch: ((take|keep) .* noise|none, this GPU)'

# In a profile each kernel runs once to warm up and once to be measured. Only the emulation counts.
EPMOE_EMULATED_LAUNCHES=$work/launches run --profile-kernels
result $? "the heavy kernels: exit code $?: $(cat "$work/out")"
[ "$(grep -cE '^\| (decode|prefill): ' "$work/out")" -eq 9 ]
result $? "expected 9 phases, found: $(cat "$work/out")"
names=$("$bench" --print-kernels)
result $? "no names of kernels"
if [ -s "$work/launches" ]; then
    awk '{ print $2, $1 }' "$work/launches" | grep -E "${names//\$/ }" >"$work/heavy"
    diff - "$work/heavy" >"$work/stdout" <<'LAUNCHES'
decode_split 2
dense_stream 6
ffn_grouped 4
ffn_stream 4
prefill 2
LAUNCHES
    result $? "launches of \"$names\": $(cat "$work/stdout")"
fi
finish
