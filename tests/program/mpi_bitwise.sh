#!/usr/bin/env bash
# Logits over MPI are the bytes of a single process: 1, 2, 4, 7 workers and more than experts, f32 and
# bf16, any placement, overlapped or not; and what goes wrong on a worker is one line and the right
# exit code.
#   tests/program/mpi_bitwise.sh build/release/epmoe
# shellcheck source=tests/rig/mpi_rig.sh
source "$(dirname "$0")/../rig/mpi_rig.sh"
tokens=$(seq -s, 1 40)

# over_mpi RANKS OPTION…: as alone. Where pairs are enough (tests/rig/pairs.h), one call in seven runs:
# tests/coordinator/test_bitwise.c tries the pairs of choices, and here is only what MPI does otherwise.
turn=0
over_mpi() {
    local ranks=$1
    shift
    turn=$((turn + 1))
    [[ -n ${EPMOE_TEST_PAIRS:-} && $((turn % 7)) -ne 1 ]] && return
    rm -f "$work/mpi"
    tests/rig/mpi.sh "$ranks" "$epmoe" "${args[@]}" "$@" -o "$work/mpi" >/dev/null || rm -f "$work/mpi"
    same "$work/alone" "$work/mpi" "${args[*]}: $ranks ranks, $*: other bytes than alone"
}

alone() { # logits' arguments, for over_mpi too
    args=(logits "$@")
    "$epmoe" "${args[@]}" -o "$work/alone"
}

for name in moe-60 moe-sparse-step-2; do
    for dtype in f32 bf16; do
        alone -m "tests/golden/models/$name" --tokens "$tokens" --dtype "$dtype"
        for ranks in 1 2 3 5 8; do
            over_mpi "$ranks" --chunk 16
            over_mpi "$ranks" --chunk 17 --overlap on
        done
    done
done
# every instruction set that this machine has
for isa in $("$epmoe" --version | sed -n 's/^instruction sets usable here: //p'); do
    export EPMOE_ISA=$isa
    for dtype in f32 bf16; do
        alone -m tests/golden/models/moe-60 --tokens "$tokens" --dtype "$dtype"
        over_mpi 5
    done
done
unset EPMOE_ISA
# more workers than experts: the tiny model with the fewest experts
alone -m tests/golden/models/moe-top-1 --tokens "$tokens"
over_mpi 12
over_mpi 12 --overlap on

# placements: by rule, with experts at home, and a file with an empty worker, each layer another
python3 - >"$work/plan.json" <<'PY'
import json, random
random.seed(1)
print(json.dumps({"ranks": 5, "layers": [
    [random.choice([0, 1, 2, 4]) for _ in range(6)] if l % 2 else None for l in range(4)]}))
PY
for name in moe-60 moe-sparse-step-2; do
    alone -m "tests/golden/models/$name" --tokens "$tokens" --chunk 16
    for placement in '--placement round-robin' '--placement even --home 5' \
        '--placement round-robin --home 2' "--placement $work/plan.json"; do
        [[ $name = moe-60 && $placement = *json ]] && continue # it is for the other model
        # shellcheck disable=SC2086 # two or four words
        over_mpi 5 $placement
        # shellcheck disable=SC2086
        over_mpi 5 $placement --overlap on
    done
done

cp -rL tests/golden/models/moe-60 "$work/other"
printf '\001' | dd of="$work/other/model.safetensors" bs=1 seek=60000 conv=notrunc status=none
cp -rL tests/golden/models/moe-60 "$work/broken"
truncate -s -1 "$work/broken/model.safetensors"
one=("$epmoe" logits -m tests/golden/models/moe-60 --tokens 1,2,3 -o "$work/out")
expect 3 'rank 1' tests/rig/mpi.sh 1 "${one[@]}" : \
    -n 1 "$epmoe" logits -m "$work/other" --tokens 1,2,3 -o "$work/out"
expect 3 'model.safetensors' tests/rig/mpi.sh 2 "${one[@]}" : \
    -n 1 "$epmoe" logits -m "$work/broken" --tokens 1,2,3 -o "$work/out"
expect 3 'model.safetensors' tests/rig/mpi.sh 3 \
    "$epmoe" logits -m "$work/broken" --tokens 1,2,3 -o "$work/out"
expect 2 'unknown option' tests/rig/mpi.sh 3 "$epmoe" logits --frobnicate
expect 3 'ranks: expected 3, as many as this run has, found 5' tests/rig/mpi.sh 3 "$epmoe" logits \
    -m tests/golden/models/moe-sparse-step-2 --tokens 1 -o "$work/out" --placement "$work/plan.json"
[ ! -e "$work/out" ]
result $? "a failed run left an output behind"
finish
