#!/usr/bin/env bash
# Profiles of whole runs, from outside: the timeline is read by tests/rig/read_trace.py, the JSON's sums
# must add up to the nanosecond, and what the run prints and writes is what it is without a profile.
#   tests/program/profile.sh build/release/epmoe
set -uo pipefail
epmoe=$(realpath "$1")
cd "$(dirname "$0")/../.."
command -v python3 >/dev/null || {
    echo "skipped: no python3"
    exit 77
}
model=tests/golden/models/moe-60 # 2 layers of 60 experts, top 4
. tests/rig/results.sh

# check_json RANKS ROWS TOP_K: rows of all steps
check_json() {
    python3 - "$work/profile.json" "$@" <<'PY'
import json, sys
p = json.load(open(sys.argv[1]))
p = p.get("profile", p)
ranks, rows, top_k = map(int, sys.argv[2:])
assert p["ranks"] == ranks and p["dropped_marks"] == 0 and len(p["clocks"]) == ranks - 1, p
assert p["prefill"]["rows"] + p["decode"]["rows"] == rows, (p["prefill"]["rows"], p["decode"]["rows"])
wait = "wait_for_workers"
for kind in "prefill", "decode":
    s = p[kind]
    assert sum(s["phases"].values()) == s["ns"]
    parts = [l["ranks"][0]["phases"] for l in s["layers"]] + [s["outside_layers"][0]["phases"]]
    assert sum(sum(t.values()) for t in parts) == s["ns"]
    for l in s["layers"]:
        assert sum(l["exchange"]["wait"].values()) == l["ranks"][0]["phases"].get(wait, 0)
        assert sum(r["rows"] for r in l["ranks"]) == s["rows"] * top_k
        assert all(v >= 0 for v in l["exchange"]["wait"].values())
    assert s["exchange"]["exposed_ns"] == s["phases"].get(wait, 0)
    b = s["bytes"]
    assert b["logical"] % (s["rows"] or 1) == 0 and b["local"] <= b["logical"]
    assert (b["wire_sent"] > 0) == (b["wire_received"] > 0) == (ranks > 1 and s["steps"] > 0), b
    assert sum(r["sent"] for r in b["ranks"]) == b["wire_sent"], b
    assert sum(r["received"] for r in b["ranks"]) == b["wire_received"], b
    assert len(b["ranks"]) == ranks and b["ranks"][0] == {"sent": 0, "received": 0}, b
    for n in s["phases"], *(r["phases"] for l in s["layers"] for r in l["ranks"]):
        assert all(v > 0 for v in n.values())
PY
}

# check_trace RANKS ARROWS STEPS [ROWS that workers computed]
check_trace() {
    python3 tests/rig/read_trace.py "$work/trace" >"$work/report" && python3 - "$work/report" "$@" <<'PY'
import json, sys
r = json.load(open(sys.argv[1]))
ranks, arrows, steps, *rows = map(int, sys.argv[2:])
assert len(r["processes"]) == ranks and r["processes"][0] == "rank 0 (coordinator)", r
assert r["arrows"] == arrows and r["steps"] == [steps] * ranks, r
assert not rows or r["rows"] == rows[0], r
PY
}

run=(run -m "$model" --placement even --tokens "$(seq -s, 1 12)" -n 6 --temp 0 --ignore-eos --ids -t 1)
outputs=(--profile --profile-json "$work/profile.json" --trace "$work/trace")
"$epmoe" "${run[@]}" --chunk 12 >"$work/alone" 2>/dev/null

# one WHAT RANKS ARROWS COMMAND…: 6 steps (a prompt of 12 rows, 5 of 1 row), 17 rows
one() {
    local what=$1 ranks=$2 arrows=$3
    shift 3
    rm -f "$work/profile.json" "$work/trace"
    "$@" "${run[@]}" --chunk 12 "${outputs[@]}" "${more[@]}" >"$work/out" 2>"$work/err"
    result $? "$what: exit code"
    cmp -s "$work/alone" "$work/out"
    result $? "$what: other ids than without a profile"
    check_json "$ranks" 17 4
    result $? "$what: sums"
    check_trace "$ranks" "$arrows" 6 $((ranks > 1 ? 17 * 4 * 2 : 0))
    result $? "$what: timeline"
    grep -q '^decode: 5 steps of 1.0 rows' "$work/err" && grep -q '^outside the layers: ' "$work/err"
    result $? "$what: table"
}

more=()
one alone 1 0 "$epmoe"
for strategy in exact padded allgather; do
    for overlap in off on; do
        # 2 layers x 6 steps x workers, and 2 layers x workers for the prompt's second half
        halves=$([ $overlap = on ] && echo 2 || echo 0)
        more=(--ranks 4 --strategy $strategy --overlap $overlap)
        one "4 ranks, $strategy, overlap $overlap" 4 $(((12 + halves) * 3)) "$epmoe"
    done
done
more=(--overlap on)
if command -v mpirun >/dev/null; then
    one "mpirun" 3 $((14 * 2)) tests/rig/mpi.sh 3 "$epmoe"
fi

# batch writes what it writes without
austen=models/austen-moe
printf '{"id": "%s", "prompt": "Dear %s", "max_tokens": 3}\n' a a b b c c >"$work/in.jsonl"
"$epmoe" batch -m $austen -i "$work/in.jsonl" -o "$work/plain" -q --max-batch 1
"$epmoe" batch -m $austen -i "$work/in.jsonl" -o "$work/results" -q --max-batch 1 --ranks 3 -t 1 \
    "${outputs[@]}" 2>/dev/null
cmp -s "$work/plain" "$work/results"
result $? "batch: other results than without a profile"
check_trace 3 $((4 * 9 * 2)) 9
result $? "batch: timeline"

# bench -o json has the profile in it: warm-up, then twice 8 prompt tokens and 3 more, on 2 sequences
"$epmoe" bench -m "$model" -p 8 -n 3 -b 2 -r 2 -t 1 --ranks 2 --profile -o json >"$work/profile.json"
check_json 2 $((3 * 2 * (8 + 3))) 4
result $? "bench: sums"

finish
