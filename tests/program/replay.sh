#!/usr/bin/env bash
# --record-routing and epmoe replay: the record is the same for any ranks, and what a replay counts is what
# the run itself has sent.   tests/program/replay.sh build/ci/epmoe
. "$(dirname "$0")/../rig/mpi_rig.sh"
export OMP_WAIT_POLICY=passive
model=$PWD/models/austen-moe
run=("$epmoe" run -m "$model" -p "It is a truth universally acknowledged" -n 24 --ignore-eos -q --no-echo -t 1)
even=(--placement even --overlap off)

# ---- recording ----

"${run[@]}" --record-routing "$work/routing" >"$work/text" 2>"$work/stderr"
result $? "alone: expected exit code 0"
"${run[@]}" --ranks 4 --overlap on --chunk 3 --record-routing "$work/chunked" >"$work/stdout" 2>"$work/stderr"
result $? "chunks: expected exit code 0"
same "$work/text" "$work/stdout" "recording: expected the same text"
"${run[@]}" --ranks 4 --overlap on --strategy padded --record-routing "$work/ranks" >"$work/stdout" 2>"$work/stderr"
same "$work/routing" "$work/ranks" "4 ranks, two halves: expected the record of one rank"
tests/rig/mpi.sh 3 "${run[@]}" --strategy allgather --dedup off --record-routing "$work/mpi" >"$work/stdout" 2>"$work/stderr"
same "$work/routing" "$work/mpi" "MPI: expected the record of one rank"

printf '{"id": "a", "prompt": "Emma", "max_tokens": 9}\n{"id": "b", "prompt": "Sense and", "max_tokens": 4}\n' >"$work/in.jsonl"
"$epmoe" batch -m "$model" -i "$work/in.jsonl" -o "$work/out.jsonl" -q --ranks 2 --record-routing "$work/batch" 2>"$work/stderr"
result $? "batch: expected exit code 0"
"$epmoe" bench -m "$model" -p 5 -n 3 -b 2 -r 1 -t 1 --record-routing "$work/bench" >"$work/stdout" 2>"$work/stderr"
result $? "bench: expected exit code 0"

# A run that fails leaves no file, and neither does one that is ended.
"$epmoe" run -m "$model" -p "It is a truth universally acknowledged" -c 4 --record-routing "$work/none" >"$work/stdout" 2>"$work/stderr"
[ $? -ne 0 ] && [ ! -e "$work/none" ]
result $? "a run that fails: expected no file"
"${run[@]}" -n 100000 -c 100001 --record-routing "$work/none" >/dev/null 2>"$work/stderr" &
ended=$!
for _ in $(seq 200); do # until its temporary file is there
    compgen -G "$work/none.part-*" >/dev/null && break
    sleep 0.05
done
compgen -G "$work/none.part-*" >/dev/null
result $? "a run that is under way: expected a temporary file"
kill -TERM "$ended"
wait "$ended"
[ $? -eq 143 ] && ! compgen -G "$work/none*" >/dev/null
result $? "a run that is ended: expected no file, found $(ls "$work")"
expect 1 'cannot be written' "${run[@]}" --record-routing /nowhere/routing
expect 2 'record-routing: expected a model with experts' "$epmoe" run -m tests/golden/models/dense-gqa --tokens 1,2 -n 1 --ids --record-routing "$work/none"
expect 2 'expected one --ranks, found 1,2' "$epmoe" bench -m "$model" --ranks 1,2 --record-routing "$work/none"

# ---- replaying ----

# What the run sends, as its profile has it, by three ways; and what the replay counts of these.
ways=('exact on rows model' 'padded off rows int8' 'allgather on sum model')
for i in 0 1 2; do
    read -r strategy dedup combine wire <<<"${ways[i]}"
    "${run[@]}" --ranks 4 "${even[@]}" --strategy "$strategy" --dedup "$dedup" --combine "$combine" --wire "$wire" \
        --record-routing "$work/routing$i" --profile-json "$work/profile$i" >"$work/stdout" 2>"$work/stderr"
    result $? "${ways[i]}: expected exit code 0"
    "$epmoe" replay "$work/routing$i" --ranks 4 -c -n 1 -o json >"$work/replay$i" 2>"$work/stderr"
    result $? "replay of ${ways[i]}: expected exit code 0"
done
python3 - "$work" "${ways[@]}" <<'PY' 2>"$work/stderr"
import json, sys
for i, way in enumerate(sys.argv[2:]):
    profile = json.load(open(f"{sys.argv[1]}/profile{i}"))
    replay = json.load(open(f"{sys.argv[1]}/replay{i}"))
    assert replay["checked"] and replay["transport"] == "local" and replay["layers"] == 4, replay
    found = [w for w in replay["ways"] if [w[key] for key in ("strategy", "dedup", "combine", "wire")] == way.split()]
    assert len(found) == 1 and len(replay["ways"]) == 20, way
    for kind in "decode", "prefill":
        s, b = found[0][kind], profile[kind]["bytes"]
        assert replay["steps"][kind] == {"steps": profile[kind]["steps"], "rows": profile[kind]["rows"]}, (way, kind)
        assert s["out_bytes"] == sum(r["sent"] for r in b["ranks"]) > 0, (way, kind, s, b)
        assert s["back_bytes"] == sum(r["received"] for r in b["ranks"]) > 0, (way, kind, s, b)
        assert s["ns"] > 0 and s["local_bytes"] == 0, s
PY
result $? "replay: expected the steps, rows and bytes of the run's own profile"

"$epmoe" replay "$work/batch" -c -n 1 --ranks 5 --placement round-robin --home 7 -o csv >"$work/local" 2>"$work/stderr"
result $? "a batch's record: expected exit code 0"
tests/rig/mpi.sh 5 "$epmoe" replay "$work/batch" -c -n 1 --placement round-robin --home 7 -o csv >"$work/mpi" 2>"$work/stderr"
result $? "a batch's record over MPI: expected exit code 0"
cut -d, -f1-12 "$work/local" >"$work/a" && cut -d, -f1-12 "$work/mpi" >"$work/b"
same "$work/a" "$work/b" "threads and MPI: expected the same bytes"
[ "$(wc -l <"$work/a")" -eq 41 ] && ! cut -d, -f12 "$work/a" | grep -qx 0
result $? "CSV: expected two lines for each of 20 ways, with bytes at home"
"$epmoe" replay "$work/bench" -n 1 >"$work/stdout" 2>"$work/stderr"
[ "$(grep -vc '^#' "$work/stdout")" -eq 2 ]
result $? "alone: expected one way, in which nothing travels"

# ---- what ways do to logits ----

# Steps of one row each, so that the logits of all rows are compared; and the same logits by epmoe logits.
"$epmoe" run -m "$model" --tokens 5,17,99,3,250,17,40,8 -n 0 --ids -q -t 1 --chunk 1 --record-routing "$work/rows" >"$work/stdout" 2>"$work/stderr"
result $? "rows: expected exit code 0"
"$epmoe" replay "$work/rows" --ranks 3 -n 1 -m "$model" -t 1 -o json >"$work/errors" 2>"$work/stderr"
result $? "errors: expected exit code 0"
tests/rig/mpi.sh 3 "$epmoe" replay "$work/rows" -n 1 -m "$model" -t 1 -o json >"$work/errors-mpi" 2>"$work/stderr"
result $? "errors over MPI: expected exit code 0"
for way in 'rows model' 'rows int8' 'sum model' 'sum int8'; do
    "$epmoe" logits -m "$model" --tokens 5,17,99,3,250,17,40,8 -t 1 --ranks 3 --placement even --overlap off \
        --combine "${way% *}" --wire "${way#* }" -o "$work/logits-${way/ /-}" >"$work/stdout" 2>"$work/stderr"
    result $? "logits, $way: expected exit code 0"
done
python3 - "$work" <<'PY' 2>"$work/stderr"
import json, math, struct, sys
def logits(way):
    data = open(f"{sys.argv[1]}/logits-{way}", "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    (name, t), = [(k, v) for k, v in json.loads(data[8:8 + n]).items() if k != "__metadata__"]
    assert t["dtype"] == "F32", t
    rows, vocab = t["shape"]
    begin, end = (8 + n + at for at in t["data_offsets"])
    v = struct.unpack(f"<{rows * vocab}f", data[begin:end])
    return [v[i * vocab:(i + 1) * vocab] for i in range(rows)]
def log_softmax(v):
    most = max(v)
    total = most + math.log(sum(math.exp(y - most) for y in v))
    return [x - total for x in v]
own = logits("rows-model")
errors, over_mpi = (json.load(open(f"{sys.argv[1]}/errors{s}"))["errors"] for s in ("", "-mpi"))
assert errors == over_mpi and errors["rows"] == len(own) == 8, (errors, over_mpi)
assert [(w["combine"], w["wire"]) for w in errors["ways"]] == [("rows", "int8"), ("sum", "model"), ("sum", "int8")]
for w in errors["ways"]:
    other = logits(f"{w['combine']}-{w['wire']}")
    kl = [sum(math.exp(a) * (a - b) for a, b in zip(log_softmax(p), log_softmax(q))) for p, q in zip(own, other)]
    delta = max(abs(a - b) for p, q in zip(own, other) for a, b in zip(p, q))
    same = sum(p.index(max(p)) == q.index(max(q)) for p, q in zip(own, other))
    for found, expected in (w["kl_mean"], sum(kl) / 8), (w["kl_most"], max(kl)), (w["delta_most"], delta):
        assert abs(found - expected) <= 1e-6 * max(abs(expected), 1e-3), (w, found, expected)
    assert w["same_best"] == same and delta > 0 and (w["rows_rms"] > 0) == (w["wire"] == "int8"), (w, same)
PY
result $? "errors: expected those of the logits that epmoe logits writes"

# ---- refused ----

expect 2 '2 ranks or more' "$epmoe" replay "$work/routing" -m "$model"
expect 3 'expected a recording of tests/golden/models/moe-60' "$epmoe" replay "$work/routing" --ranks 2 -m tests/golden/models/moe-60
expect 3 'expected a recording of tests/golden/models/moe-60' tests/rig/mpi.sh 2 "$epmoe" replay "$work/routing" -m tests/golden/models/moe-60

head -c 300 "$work/routing" >"$work/cut"
expect 3 "cut: expected recorded routing" "$epmoe" replay "$work/cut"
expect 3 "config.json: expected recorded routing" "$epmoe" replay "$model/config.json"
expect 2 'placement balanced: expected even' "$epmoe" replay "$work/routing" --placement balanced
expect 2 'replay: expected one FILE' "$epmoe" replay
expect 2 'rank 1 on' tests/rig/mpi.sh 1 "$epmoe" replay "$work/routing" : -n 1 "$epmoe" replay "$work/batch"
expect 3 "cut: expected recorded routing" tests/rig/mpi.sh 1 "$epmoe" replay "$work/routing" : -n 1 "$epmoe" replay "$work/cut"
finish
