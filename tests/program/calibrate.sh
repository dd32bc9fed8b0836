#!/usr/bin/env bash
# epmoe calibrate and project on the shipped model: a fit is written over threads and over MPI, project
# reads it, and its counts are those of a replay on as many ranks. No time is asserted.
#   tests/program/calibrate.sh build/ci/epmoe
. "$(dirname "$0")/../rig/mpi_rig.sh"
export OMP_WAIT_POLICY=passive EPMOE_MPI_LEAKS=no
model=models/austen-moe
quick=(-r 1 --rows 4)

"$epmoe" run -m $model -p "It is a truth universally acknowledged" -n 6 --ignore-eos -q -t 1 --record-routing "$work/routing" >"$work/stdout" 2>"$work/stderr"
result $? "recording: expected exit code 0"

# ---- calibrate ----

"$epmoe" calibrate -m $model --ranks 2,5 --check "${quick[@]}" -o "$work/fit" >"$work/table" 2>"$work/stderr"
result $? "calibrate: expected exit code 0"
[ -z "$(ls "$work" | grep 'fit.routing')" ]
result $? "calibrate: expected no file beside the fit"
tail -1 "$work/table" | grep -qE '^all: median relative error [0-9.]+ % of [0-9]+ settings held out; noise floor [0-9.]+ %$' &&
    grep -qE '^steps of all ranks: median relative error' "$work/table" && grep -q '^  *5 *3 *64  allgather' "$work/table"
result $? "calibrate --check: expected steps and both errors"
tests/rig/mpi.sh 5 "$epmoe" calibrate -m $model "${quick[@]}" -o "$work/fit-mpi" >"$work/stdout" 2>"$work/stderr"
result $? "calibrate over MPI: expected exit code 0"
tests/rig/mpi.sh 3 "$epmoe" calibrate "${quick[@]}" -o "$work/laps" >"$work/stdout" 2>"$work/stderr"
result $? "calibrate without a model: expected exit code 0"
"$epmoe" calibrate -m $model --ranks 3 --check --fit "$work/fit" "${quick[@]}" >"$work/stdout" 2>"$work/stderr" &&
    grep -q 'nothing here was fitted' "$work/stdout"
result $? "calibrate --fit: expected exit code 0"
python3 - "$work" <<'PY' 2>"$work/stderr"
import json, sys
def load(name):
    return json.load(open(f"{sys.argv[1]}/{name}"))
fit, mpi, laps = load("fit"), load("fit-mpi"), load("laps")
assert laps["model"] is None and laps["coefficients"]["gamma_s_per_row"] is None
assert fit["model"]["digest"] == mpi["model"]["digest"] and fit["model"]["experts"] == 60
assert fit["transport"] == "local" and mpi["transport"] == "mpi" and fit["ranks"] == mpi["ranks"] == 5
assert fit["measured"]["ranks"] == [2, 5] and mpi["measured"]["ranks"] == [5, 5] and laps["measured"]["ranks"] == [3, 3]
assert fit["measured"]["rows"] == [1, 4] and fit["measured"]["positions"] == [16, 400]
for f in fit, mpi, laps:
    for s in f["settings"]:
        assert s["measured_s"] > 0 and s["again_s"] > 0 and s["predicted_s"] >= 0, s
        t = min(s["measured_s"], s["again_s"])
        assert abs(s["relative_error"] - (s["predicted_s"] - t) / t) < 1e-6 * (1 + s["predicted_s"] / t), s
    assert all(v is None or v >= 0 for v in f["coefficients"].values())
    held = sorted(abs(s["relative_error"]) for s in f["settings"] if s["held_out"])
    assert f["goodness"]["held_out"] == len(held) > 0
    assert abs(f["goodness"]["held_out_most_relative_error"] - held[-1]) < 1e-6 * (1 + held[-1])
    assert any(f["coefficients"].values())
# 7 ways of 4 sizes for each number of ranks; 6 shapes alone, their experts, 6 ways of them on all ranks
kinds = [s["kind"] for s in fit["settings"]]
assert [kinds.count(k) for k in ("lap", "alone", "experts", "step")] == [2 * 7 * 4, 6, 6, 2 * 6 * 6], kinds
assert [s["kind"] for s in mpi["settings"]].count("step") == 6
PY
result $? "calibrate: expected files with the keys of docs/projection.md"

# ---- project ----

"$epmoe" replay "$work/routing" --ranks 5 -n 1 -o json >"$work/replay" 2>"$work/stderr" &&
    "$epmoe" project --routing "$work/routing" --fit "$work/fit" --ranks 5,8,300 --placement even --steps 100 -o json >"$work/project" 2>"$work/stderr" &&
    "$epmoe" project --routing "$work/routing" --fit "$work/fit" --ranks 5,8,300 --placement even --steps 100 -o csv >"$work/csv" 2>"$work/stderr" &&
    "$epmoe" project --routing "$work/routing" --fit "$work/fit" --ranks 5 --overlap off --placement even --steps 100 -o json >"$work/project-off" 2>"$work/stderr" &&
    "$epmoe" project --routing "$work/routing" --fit "$work/fit" --ranks 5 --overlap on --placement even --steps 100 -o json >"$work/project-on" 2>"$work/stderr" &&
    "$epmoe" project --routing "$work/routing" --fit "$work/fit" -m $model --ranks 6 --coordinators 2 --experts run -o json --emit-matrix "$work/matrix" >"$work/run" 2>"$work/stderr"
result $? "project: expected exit code 0"
python3 - "$work" <<'PY' 2>"$work/stderr"
import csv, json, sys
def load(name):
    return json.load(open(f"{sys.argv[1]}/{name}"))
replay, project, fit = load("replay"), load("project"), load("fit")
assert project["wire_time"] == "modelled" and project["counts"] == "counted" and project["experts_time"] == "fit"
assert project["relative_error"] == fit["goodness"]["held_out_median_relative_error"]
assert [(p["ranks"], p["kind"]) for p in project["projections"]] == [(r, k) for r in (5, 8, 300) for k in ("decode", "prefill")]
near = lambda a, b: abs(a - b) <= 1e-6 * abs(b)  # a file has 9 digits
way = lambda w: [w[key] for key in ("strategy", "dedup", "combine", "wire")]
for p in project["projections"]:
    if p["ranks"] == 5:  # counts are those of as many ranks as threads
        steps = replay["steps"][p["kind"]]["steps"]
        assert len(p["ways"]) == (40 if p["rows"] > 1 else 20) and len(replay["ways"]) == 20
        for a, b in zip(p["ways"], replay["ways"]):
            assert way(a) == way(b) and a["overlap"] == "off"
            for key in "out_bytes", "back_bytes", "messages_out":
                assert round(a[key] * steps) == b[p["kind"]][key] > 0, (key, a, b)
    assert ("ranks" in p["extrapolated"]) == (p["ranks"] > 5), p
    assert ("rows" in p["extrapolated"]) == (p["kind"] == "prefill"), p
    assert p["workers_with_experts"] == min(60, p["workers"]) and p["workers"] == p["ranks"] - 1
    assert ("overlap" in p["extrapolated"]) == (p["best"]["overlap"] == "on"), p
    for i, w in enumerate(p["ways"]):
        assert near(w["step_s"], w["home_s"] + w["experts_exposed_s"] + w["exchange_exposed_s"])
        assert near(w["speed_up"] * w["step_s"], p["alone_s"])
        assert near(w["exchange_share"] * w["step_s"], w["exchange_exposed_s"])
        assert w["step_s"] >= p["best_of_all"]["step_s"]
        exposed, all_of_it = w["experts_exposed_s"] + w["exchange_exposed_s"], w["experts_s"] + w["exchange_s"]
        if w["overlap"] == "off":
            assert near(exposed, all_of_it) and near(w["experts_exposed_s"], w["experts_s"]), w
        else:  # the same bytes and more messages, weights read twice, and something is hidden
            assert p["kind"] == "prefill" and way(w) == way(p["ways"][i - 20]) and exposed < all_of_it, w
            assert w["home_s"] > 0.999999 * p["ways"][i - 20]["home_s"] and w["messages_out"] >= 2 * 4 * (p["ranks"] - 1), w
    assert p["best"]["wire"] == "model" and p["best"]["combine"] == "rows"
    assert near(sum(r["sent_bytes"] for r in p["per_rank"]), p["best"]["out_bytes"] + p["best"]["back_bytes"])
    assert near(sum(r["rows"] for r in p["per_rank"]), 4 * 4 * p["rows"])
for row, p in zip(csv.DictReader(open(f"{sys.argv[1]}/csv")), project["projections"]):
    assert int(row["ranks"]) == p["ranks"] and row["strategy"] == p["best"]["strategy"] and row["wire_time"] == "modelled"
    assert abs(float(row["all_step_s"]) / p["best_of_all"]["step_s"] - 1) < 1e-6
    assert row["extrapolated"] == "+".join(p["extrapolated"])
only = [load(f"project-{overlap}") for overlap in ("off", "on")]
for i, overlap in enumerate(("off", "on")):
    assert only[i]["overlap"] == overlap and project["overlap"] == "best"
    for p in only[i]["projections"]:
        whole = [w for q in project["projections"] for w in q["ways"] if (q["ranks"], q["kind"]) == (5, p["kind"])]
        assert all(w["overlap"] == overlap for w in p["ways"]) and len(p["ways"]) == 20
        assert len(whole) == 20 or p["ways"] == whole[20 * i:20 * i + 20]
        assert len(whole) == 40 or [w["step_s"] for w in p["ways"]] == [w["step_s"] for w in whole]
run = load("run")
assert run["experts_time"] == "run" and run["home_time"] == "fit" and run["coordinators"] == 2
matrix = [[int(x) for x in line.split()] for line in open(f"{sys.argv[1]}/matrix")]
last = run["projections"][-1]
steps = run["steps"]["prefill"]["taken"]
assert len(matrix) == 6 and [r["role"] for r in last["per_rank"]] == ["coordinator"] * 2 + ["worker"] * 4
for rank, r in enumerate(last["per_rank"]):
    assert sum(matrix[rank]) == round(r["sent_bytes"] * steps) and sum(line[rank] for line in matrix) == round(r["received_bytes"] * steps)
    assert (r["experts_s"] > 0) == (r["role"] == "worker")
PY
result $? "project: expected the counts of the replay, and the keys of docs/projection.md"
for sheet in launch/topologies/*.json; do
    "$epmoe" project --routing "$work/routing" --topology "$sheet" -m $model --ranks 8..64 >"$work/stdout" 2>"$work/stderr" &&
        [ "$(grep -vc '^#' "$work/stdout")" -eq 8 ] && grep -q 'datasheet' "$work/stdout"
    result $? "$sheet: expected two lines for each of 8, 16, 32 and 64 ranks"
done

# ---- refused ----

expect 2 'expected --routing ROUTING' "$epmoe" project
expect 2 'expected --fit FIT' "$epmoe" project --routing "$work/routing"
expect 2 'expected -m MODEL with --experts run' "$epmoe" project --routing "$work/routing" --fit "$work/fit" --experts run
expect 2 'expected -m MODEL with --topology' "$epmoe" project --routing "$work/routing" --topology launch/topologies/dgx-a100.json
expect 2 'expected a range FIRST..LAST within 2 and 4096' "$epmoe" project --routing "$work/routing" --fit "$work/fit" --ranks 8..4
expect 2 'from 5 to 4096' "$epmoe" project --routing "$work/routing" --fit "$work/fit" --ranks 4 --coordinators 4
expect 3 'model: expected an object, found null' "$epmoe" project --routing "$work/routing" --fit "$work/laps"
expect 3 'kind: expected "epmoe fit"' "$epmoe" project --routing "$work/routing" --fit $model/config.json
expect 3 'expected no key "command"' "$epmoe" project --routing "$work/routing" --topology "$work/project" -m $model
expect 3 'expected the model that' "$epmoe" project --routing "$work/routing" --topology launch/topologies/dgx-a100.json -m tests/golden/models/moe-60
expect 3 'expected recorded routing' "$epmoe" project --routing "$work/fit" --fit "$work/fit"
expect 2 'check: expected -m MODEL' "$epmoe" calibrate --check
expect 2 'expected no -o' "$epmoe" calibrate -m $model --fit "$work/fit" -o "$work/x"
expect 2 'fit: expected -m MODEL' "$epmoe" calibrate --fit "$work/fit"
expect 1 'cannot be written' "$epmoe" calibrate -o /nowhere/fit
expect 2 'under mpirun, -n sets the ranks' tests/rig/mpi.sh 2 "$epmoe" calibrate --ranks 3
expect 2 'expected the options and files of rank 0' tests/rig/mpi.sh 1 "$epmoe" calibrate -r 1 --rows 4 : -n 1 "$epmoe" calibrate -r 1 --rows 8
expect 3 'no such directory' tests/rig/mpi.sh 1 "$epmoe" calibrate "${quick[@]}" -m $model : -n 1 "$epmoe" calibrate "${quick[@]}" -m /nowhere
expect 3 'no such directory' tests/rig/mpi.sh 1 "$epmoe" calibrate "${quick[@]}" -m /nowhere : -n 1 "$epmoe" calibrate "${quick[@]}" -m $model
finish
