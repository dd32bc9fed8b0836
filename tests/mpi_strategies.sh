#!/usr/bin/env bash
# How rows travel over MPI: every strategy, dedup, combine, wire and overlap gives the bytes that the
# same ranks give as threads; with --combine rows those of a single process; and uneven placements,
# too. Then the shipped model, and requests that share steps.
#   tests/mpi_strategies.sh build/release/epmoe
# shellcheck source=tests/mpi_rig.sh
source "$(dirname "$0")/mpi_rig.sh"

# compare RANKS OPTION…: over MPI, overlapped and not, as with threads, and alone where nothing is
# summed apart
compare() {
    local ranks=$1 wire=model
    shift
    [[ $* =~ --wire\ ([a-z0-9]+) ]] && wire=${BASH_REMATCH[1]}
    rm -f "$work/threads"
    "$epmoe" "${args[@]}" --ranks "$ranks" -t 1 "$@" -o "$work/threads" 2>/dev/null
    [[ $* == *"--combine sum"* ]] ||
        same "$work/alone-$wire" "$work/threads" "$ranks ranks, $*: other bytes than alone"
    for overlap in off on; do
        rm -f "$work/mpi"
        tests/mpi.sh "$ranks" "$epmoe" "${args[@]}" "$@" --overlap $overlap -o "$work/mpi" 2>/dev/null >&2 ||
            rm -f "$work/mpi"
        same "$work/threads" "$work/mpi" \
            "$model: $ranks ranks, $*, overlap $overlap: other bytes over MPI than with threads"
    done
}

prepare() { # model, dtype
    model=$1
    args=(logits -m "$1" --dtype "$2" --tokens "$(seq -s, 1 40)" --chunk 23)
    for wire in model bf16 int8; do
        "$epmoe" "${args[@]}" --wire $wire -o "$work/alone-$wire" 2>/dev/null
    done
}

prepare tests/golden/models/moe-60 f32
for strategy in exact padded allgather; do
    compare 2 --strategy $strategy --dedup on --combine rows --wire bf16
    compare 4 --strategy $strategy --dedup on --combine rows --wire int8
    compare 4 --strategy $strategy --dedup off --combine sum --wire model
    compare 6 --strategy $strategy --dedup off --combine rows --wire model
done
prepare tests/golden/models/moe-sparse-step-2 bf16
for strategy in exact padded allgather; do
    compare 9 --strategy $strategy --dedup on --combine rows --wire model
    compare 3 --strategy $strategy --dedup on --combine sum --wire int8
    compare 3 --strategy $strategy --combine rows --placement round-robin --home 4
    compare 4 --strategy $strategy --combine sum --wire int8 --home 5
done
prepare models/austen-moe bf16
for strategy in exact padded allgather; do
    compare 5 --strategy $strategy --combine rows --wire model
    compare 4 --strategy $strategy --combine rows --wire int8 --placement round-robin --home 7
    compare 3 --strategy $strategy --combine sum --dedup off
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
        rm -f "$work/out"
        tests/mpi.sh 4 "$epmoe" "${job[@]}" --max-batch $n --strategy $strategy --overlap on \
            -o "$work/out" 2>/dev/null || rm -f "$work/out"
        sort "$work/out" | cmp -s - "$work/sorted"
        result $? "batch of $n, $strategy, overlapped over MPI: other lines than one after the other"
    done
done
[ "$(wc -l <"$work/sorted")" -eq 24 ]
result $? "expected 24 lines, found $(wc -l <"$work/sorted")"

expect 2 'expected an f32 model' tests/mpi.sh 2 "$epmoe" "${args[@]}" --dtype f16 --wire bf16 \
    -o "$work/no"
[ ! -e "$work/no" ]
result $? "a refused wire left an output behind"
finish
