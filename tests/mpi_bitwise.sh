#!/usr/bin/env bash
# Logits over MPI are the bytes of a single process: 1, 2, 4, 7 workers and more than experts, f32 and
# bf16, any placement; and what goes wrong on a worker is one line and the right exit code.
#   tests/mpi_bitwise.sh build/release/epmoe
set -uo pipefail
epmoe=$(realpath "$1")
cd "$(dirname "$0")/.."
command -v mpirun >/dev/null || {
    echo "skipped: no mpirun"
    exit 77
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tokens=$(seq -s, 1 40)
failed=0 passed=0
result() { # condition's status, what
    if [ "$1" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "mpi_bitwise: $2"
    fi
}

for name in moe-60 moe-sparse-step-2; do
    for dtype in f32 bf16; do
        args=(logits -m "tests/golden/models/$name" --tokens "$tokens" --dtype "$dtype")
        "$epmoe" "${args[@]}" -o "$work/alone"
        for ranks in 1 2 3 5 8; do
            tests/mpi.sh "$ranks" "$epmoe" "${args[@]}" --chunk 16 -o "$work/mpi" >/dev/null
            cmp -s "$work/alone" "$work/mpi"
            result $? "$name $dtype: $ranks ranks gave other bytes"
            rm -f "$work/mpi"
        done
    done
done
# every instruction set that this machine has
for isa in $("$epmoe" --version | sed -n 's/^instruction sets usable here: //p'); do
    for dtype in f32 bf16; do
        args=(logits -m tests/golden/models/moe-60 --tokens "$tokens" --dtype "$dtype")
        EPMOE_ISA=$isa "$epmoe" "${args[@]}" -o "$work/alone"
        EPMOE_ISA=$isa tests/mpi.sh 5 "$epmoe" "${args[@]}" -o "$work/mpi" >/dev/null
        cmp -s "$work/alone" "$work/mpi"
        result $? "$isa $dtype: 5 ranks gave other bytes"
        rm -f "$work/mpi"
    done
done
# more workers than experts: the tiny model with the fewest experts
args=(logits -m tests/golden/models/moe-top-1 --tokens "$tokens")
"$epmoe" "${args[@]}" -o "$work/alone"
tests/mpi.sh 12 "$epmoe" "${args[@]}" -o "$work/mpi" >/dev/null
cmp -s "$work/alone" "$work/mpi"
result $? "12 ranks gave other bytes"

# placements: by rule, with experts at home, and a file with an empty worker, each layer another
python3 - >"$work/plan.json" <<'PY'
import json, random
random.seed(1)
print(json.dumps({"ranks": 5, "layers": [
    [random.choice([0, 1, 2, 4]) for _ in range(6)] if l % 2 else None for l in range(4)]}))
PY
for name in moe-60 moe-sparse-step-2; do
    args=(logits -m "tests/golden/models/$name" --tokens "$tokens" --chunk 16)
    "$epmoe" "${args[@]}" -o "$work/alone"
    for placement in '--placement round-robin' '--placement even --home 5' \
        '--placement round-robin --home 2' "--placement $work/plan.json"; do
        [[ $name = moe-60 && $placement = *json ]] && continue # it is for the other model
        # shellcheck disable=SC2086 # two or four words
        tests/mpi.sh 5 "$epmoe" "${args[@]}" $placement -o "$work/mpi" >/dev/null
        cmp -s "$work/alone" "$work/mpi"
        result $? "$name: $placement gave other bytes"
        rm -f "$work/mpi"
    done
done

# expect CODE TEXT COMMAND…: exit code, and the text in exactly one line
expect() {
    local code=$1 says=$2
    shift 2
    timeout 60 "$@" >/dev/null 2>"$work/stderr"
    local found=$?
    [ "$found" -eq "$code" ] && [ "$(grep -cF "$says" "$work/stderr")" -eq 1 ]
    result $? "expected exit $code and one line with \"$says\", found $found: $(cat "$work/stderr")"
}

cp -rL tests/golden/models/moe-60 "$work/other"
printf '\001' | dd of="$work/other/model.safetensors" bs=1 seek=60000 conv=notrunc status=none
cp -rL tests/golden/models/moe-60 "$work/broken"
truncate -s -1 "$work/broken/model.safetensors"
one=("$epmoe" logits -m tests/golden/models/moe-60 --tokens 1,2,3 -o "$work/out")
expect 3 'rank 1' tests/mpi.sh 1 "${one[@]}" : \
    -n 1 "$epmoe" logits -m "$work/other" --tokens 1,2,3 -o "$work/out"
expect 3 'model.safetensors' tests/mpi.sh 2 "${one[@]}" : \
    -n 1 "$epmoe" logits -m "$work/broken" --tokens 1,2,3 -o "$work/out"
expect 3 'model.safetensors' tests/mpi.sh 3 \
    "$epmoe" logits -m "$work/broken" --tokens 1,2,3 -o "$work/out"
expect 2 'unknown option' tests/mpi.sh 3 "$epmoe" logits --frobnicate
expect 3 'ranks: expected 3, as many as this run has, found 5' tests/mpi.sh 3 "$epmoe" logits \
    -m tests/golden/models/moe-sparse-step-2 --tokens 1 -o "$work/out" --placement "$work/plan.json"
[ ! -e "$work/out" ]
result $? "a failed run left an output behind"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
