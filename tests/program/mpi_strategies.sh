#!/usr/bin/env bash
# How rows travel over MPI: any two choices of model, type, placement, strategy, dedup, combine, wire
# and overlap, against a single process. Then requests that share steps.
#   tests/program/mpi_strategies.sh build/release/epmoe build/release/tests/test_strategies
strategies=$(realpath "$2")
# shellcheck source=tests/rig/mpi_rig.sh
source "$(dirname "$0")/../rig/mpi_rig.sh"

export EPMOE_MPI_LEAKS=no # mpi_bitwise.sh and batch.sh look for those of the same calls

# 1 to 9 workers, or one number of them (tests/rig/pairs.h: all numbers have been tried as threads); what
# is compared with what, the program says
numbers=(1 2 3 4 5 6 7 8 9)
[ -z "${EPMOE_TEST_PAIRS:-}" ] || numbers=(4)
for workers in "${numbers[@]}"; do
    EPMOE_MPI_SECONDS=900 tests/rig/mpi.sh $((workers + 1)) "$strategies" >"$work/said" 2>&1
    result $? "$workers workers: $(grep -v PASSED "$work/said")"
    grep ' sums of ranks ' "$work/said"
done

# sequences that share steps, prompts with decoding: each what it gives alone
for i in $(seq 24); do
    echo "{\"id\": \"r$i\", \"prompt\": \"Emma Woodhouse, chapter $i\", \"seed\": $i," \
        "\"max_tokens\": $((3 + i * 17 % 31)), \"ignore_eos\": true}"
done >"$work/in"
job=(batch -m models/austen-moe -i "$work/in" --chunk 24)
"$epmoe" "${job[@]}" --max-batch 1 -t 1 -o "$work/out" 2>/dev/null
sort "$work/out" >"$work/sorted"
for strategy in exact padded allgather; do
    for n in 2 9; do
        [[ -n ${EPMOE_TEST_PAIRS:-} && $strategy$n = @(exact2|padded9|allgather2) ]] && continue
        rm -f "$work/out"
        tests/rig/mpi.sh 4 "$epmoe" "${job[@]}" --max-batch $n --strategy $strategy --overlap on \
            -o "$work/out" 2>/dev/null || rm -f "$work/out"
        sort "$work/out" | cmp -s - "$work/sorted"
        result $? "batch of $n, $strategy, overlapped over MPI: other lines than one after the other"
    done
done
[ "$(wc -l <"$work/sorted")" -eq 24 ]
result $? "expected 24 lines, found $(wc -l <"$work/sorted")"

expect 2 'expected an f32 model' tests/rig/mpi.sh 2 "$epmoe" logits -m models/austen-moe --tokens 1,2,3 \
    --dtype f16 --wire bf16 -o "$work/no"
[ ! -e "$work/no" ]
result $? "a refused wire left an output behind"
finish
