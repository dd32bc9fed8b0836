#!/usr/bin/env bash
# Ranks as threads under ThreadSanitizer: whole runs, any two choices of how rows travel, 1 to 9 workers,
# even and uneven placements. Each rank has one thread (-t 1): libgomp, which is not built for it, then
# starts no team, and every report is a race between ranks.
#   tests/program/tsan.sh build/tsan/epmoe              logits by each way that rows travel
#   tests/program/tsan.sh build/tsan/epmoe placements   logits on ranks with more experts, fewer and none
#   tests/program/tsan.sh build/tsan/epmoe sequences    batches, texts, profiles, bench
#   tests/program/tsan.sh build/tsan/epmoe serve        the server: HTTP's threads, the engine's and ranks
set -uo pipefail
epmoe=$(realpath "$1") part=${2:-logits}
cd "$(dirname "$0")/../.."
nm "$epmoe" | grep __tsan_init >/dev/null || {
    echo "skipped: not a build with ThreadSanitizer"
    exit 77
}
export TSAN_OPTIONS="halt_on_error=1 exitcode=66 ${TSAN_OPTIONS:-}"
export OMP_THREAD_LIMIT=1
. tests/rig/results.sh

clean() { # arguments of epmoe
    rm -f "$work/out"
    timeout 120 "$epmoe" "$@" -t 1 >"$work/stdout" 2>"$work/stderr"
    result $? "exit code $?: epmoe $*"
}

moe_60=tests/golden/models/moe-60 austen=models/austen-moe
tokens=$(seq -s, 1 20)
overlaps=(off on)
dedups=(on off)
combines=(rows sum)
turn=0
# Calls what is named with every strategy and wire. Dedup, combine and overlap take turns, so that any
# two choices are together in a few calls of this function; the full product: tests/exchange/test_exchange.c.
each_way() {
    local strategy wire
    for strategy in exact padded allgather; do
        for wire in model bf16 int8; do
            "$@" --strategy $strategy --wire $wire --dedup "${dedups[turn % 2]}" \
                --combine "${combines[turn / 2 % 2]}" --overlap "${overlaps[turn / 4 % 2]}"
            turn=$((turn + 1))
        done
    done
}

logits=(clean logits -m $moe_60 --dtype f32 --tokens "$tokens" --chunk 13 -o "$work/out")
if [ "$part" = logits ]; then
    for workers in 1 2 4 9; do
        each_way "${logits[@]}" --ranks $((workers + 1))
    done
    finish
    exit
fi

if [ "$part" = placements ]; then
    for workers in 3 5 6 7 8; do
        "${logits[@]}" --ranks $((workers + 1)) --strategy padded --combine sum
        "${logits[@]}" --ranks $((workers + 1)) --placement round-robin --home 7
    done

    # all experts of every layer on ranks 0 and 3; ranks 1 and 2 hold none
    python3 -c 'import json; print(json.dumps({"ranks": 4, "experts": [3 * (e % 5 < 3) for e in range(60)]}))' \
        >"$work/placement.json"
    each_way "${logits[@]}" --ranks 4 --placement "$work/placement.json"
    finish
    exit
fi

if [ "$part" = serve ]; then
    timeout 300 python3 tests/program/serve.py races "$epmoe" >"$work/stdout" 2>"$work/stderr"
    result $? "the server"
    finish
    exit
fi

# sequences of different lengths that come and go
for i in 1 2 3 4 5 6 7; do
    echo "{\"id\": \"r$i\", \"prompt\": \"Emma Woodhouse, chapter $i\", \"max_tokens\": $((i * 3)), \"temperature\": 1}"
done >"$work/in"
for overlap in "${overlaps[@]}"; do
    for strategy in exact padded allgather; do
        clean batch -m $austen -i "$work/in" -o "$work/out" --ranks 5 --max-batch 3 --chunk 8 --strategy $strategy --overlap $overlap
        clean batch -m $austen -i "$work/in" -o "$work/out" --ranks 3 --max-batch 7 --home 20 --strategy $strategy --overlap $overlap
    done
    clean run -m $austen -p "It is a truth" -n 8 --ranks 4 --overlap $overlap
    clean run -m $austen -p "It is a truth" -n 8 --ranks 10 --dtype f32 --combine sum --wire int8 --overlap $overlap
done
for overlap in off on; do
    clean run -m $austen -p "It is a truth" -n 8 --ranks 4 --overlap $overlap --profile --trace "$work/trace"
done
clean bench -m $austen -p 40 -n 4 -b 1,3 -r 2 --ranks 3

finish
