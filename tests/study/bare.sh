#!/usr/bin/env bash
# `epmoe alltoall` beside a bare loop of MPI_Alltoallv (bare_alltoallv.c) on the same byte matrix: both
# hand the same bytes to MPI, rank by rank, as a library below them counts (tests/rig/meter.c), and as
# the reports say. Both times are printed, and nothing is asserted about them.
#   tests/study/bare.sh build/ci/epmoe build/ci/tests/bare_alltoallv build/ci/tests/libmeter.so
set -uo pipefail
bare=$(realpath "$2") meter=$(realpath "$3")
. "$(dirname "$0")/../rig/mpi_rig.sh"
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0" EPMOE_MPI_LEAKS=no

metered() { # NAME RANKS PROGRAM…: its stdout, and "rank bytes" of all ranks, in rank's order
    local name=$1 ranks=$2
    shift 2
    METER=$work/$name.meter tests/rig/mpi.sh "$ranks" -x METER -x LD_PRELOAD="$meter" "$@" \
        >"$work/$name" 2>"$work/stderr"
    result $? "$name: expected exit code 0"
    cat "$work/$name.meter".? >"$work/$name.bytes"
}

per_lap() { # NAME LAPS: bytes that each rank sent in one lap
    awk -v laps="$2" '{ printf "%d %.6f\n", $1, $2 / laps }' "$work/$1.bytes"
}

compare() { # WHAT RANKS: bytes a lap, rank by rank
    cmp -s "$work/ours" "$work/theirs"
    result $? "$1: expected the same bytes, found $(paste "$work/ours" "$work/theirs" | tr '\n\t' ';|')"
}

# A matrix as it is: 3 + 7 laps.
printf '5 100000 3 0\n7 8 100 70000\n10 0 2 1\n0 1 60000 0\n' >"$work/matrix"
metered raw 4 "$epmoe" alltoall --matrix "$work/matrix" -w 3 -n 7 -c -o json
metered bare 4 "$bare" "$work/matrix" 3 7
per_lap raw 10 >"$work/ours"
per_lap bare 10 >"$work/theirs"
compare "a matrix"
read -r _ bytes _ us right <"$work/bare"
python3 - "$work/raw" "$bytes" <<'PY' 2>"$work/stderr"
import json, sys
v = json.load(open(sys.argv[1]))
assert v["wire_bytes"] == int(sys.argv[2]) == 230122 and v["checked"], v
print(f"230122 bytes: epmoe {v['median_ns'] / 1e3:.1f} us")
PY
[ $? -eq 0 ] && [ "$right" = right ]
result $? "a matrix: expected the same bytes in both reports, found $bytes of the loop ($right)"
echo "230122 bytes: MPI_Alltoallv $us us"

# Routed rows, whose matrix is written and given to the loop: a first lap, 2 to warm up, 6 whole, 6 in
# two parts, and one that is checked.
for strategy in exact padded allgather; do
    metered "$strategy" 4 "$epmoe" alltoall --tokens 40 --hidden 512 --skew zipf:1 --strategy $strategy -w 2 \
        -n 6 -c -o json --emit-matrix "$work/routed"
    metered bare 4 "$bare" "$work/routed" 2 6
    per_lap $strategy 16 >"$work/ours"
    per_lap bare 8 >"$work/theirs"
    compare "$strategy"
    python3 - "$work/$strategy" "$work/bare" <<'PY' 2>"$work/stderr"
import json, sys
s = json.load(open(sys.argv[1]))["sizes"][0]
_, bytes, _, us, right = open(sys.argv[2]).read().split()
assert s["out_bytes"] + s["back_bytes"] == int(bytes) and right == "right" and s["checked"], (s, bytes, right)
print(f"{bytes} bytes: epmoe {s['round_trip']['median_ns'] / 1e3:.1f} us out and back, MPI_Alltoallv {us} us")
PY
    result $? "$strategy: expected the same bytes in both reports"
done
finish
