#!/usr/bin/env bash
# How rows travel over MPI: every strategy, dedup, combine and wire gives the bytes that the same
# ranks give as threads; with --combine rows those of a single process; and uneven placements, too.
#   tests/mpi_strategies.sh build/release/epmoe
set -uo pipefail
epmoe=$(realpath "$1")
cd "$(dirname "$0")/.."
command -v mpirun >/dev/null || {
    echo "skipped: no mpirun"
    exit 77
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0 passed=0
same() { # file, file, what
    if cmp -s "$1" "$2"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "mpi_strategies: $3"
    fi
}

# compare RANKS OPTION…: over MPI as with threads, and alone where nothing is summed apart
compare() {
    local ranks=$1 wire=model
    shift
    [[ $* =~ --wire\ ([a-z0-9]+) ]] && wire=${BASH_REMATCH[1]}
    rm -f "$work/mpi" "$work/threads"
    tests/mpi.sh "$ranks" "$epmoe" "${args[@]}" "$@" -o "$work/mpi" 2>/dev/null >&2
    "$epmoe" "${args[@]}" --ranks "$ranks" -t 1 "$@" -o "$work/threads" 2>/dev/null
    same "$work/threads" "$work/mpi" "$ranks ranks, $*: other bytes over MPI than with threads"
    [[ $* == *"--combine sum"* ]] ||
        same "$work/alone-$wire" "$work/mpi" "$ranks ranks, $*: other bytes than alone"
}

prepare() { # model, dtype
    args=(logits -m "tests/golden/models/$1" --dtype "$2" --tokens "$(seq -s, 1 40)" --chunk 23)
    for wire in model bf16 int8; do
        "$epmoe" "${args[@]}" --wire $wire -o "$work/alone-$wire" 2>/dev/null
    done
}

prepare moe-60 f32
for strategy in exact padded allgather; do
    compare 2 --strategy $strategy --dedup on --combine rows --wire bf16
    compare 4 --strategy $strategy --dedup on --combine rows --wire int8
    compare 4 --strategy $strategy --dedup off --combine sum --wire model
    compare 6 --strategy $strategy --dedup off --combine rows --wire model
done
prepare moe-sparse-step-2 bf16
for strategy in exact padded allgather; do
    compare 9 --strategy $strategy --dedup on --combine rows --wire model
    compare 3 --strategy $strategy --dedup on --combine sum --wire int8
done
if "$epmoe" logits --help | grep -q -- '--home'; then
    for strategy in exact padded allgather; do
        compare 3 --strategy $strategy --combine rows --placement round-robin --home 4
        compare 4 --strategy $strategy --combine sum --wire int8 --home 5
    done
fi

# what is refused, once
tests/mpi.sh 2 "$epmoe" "${args[@]}" --dtype f16 --wire bf16 -o "$work/no" 2>"$work/stderr" >&2
if [ $? -ne 2 ] || [ "$(grep -c 'expected an f32 model' "$work/stderr")" -ne 1 ] ||
    [ -e "$work/no" ]; then
    failed=$((failed + 1))
    echo "mpi_strategies: --wire bf16 under f16: expected one line and exit code 2"
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
