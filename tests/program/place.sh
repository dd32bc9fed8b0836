#!/usr/bin/env bash
# epmoe place: what it predicts of a placement is what a run with that placement then measures, rank by rank,
# and the text is the same.   tests/program/place.sh build/ci/epmoe
. "$(dirname "$0")/../rig/begin.sh"
export OMP_WAIT_POLICY=passive
model=$PWD/models/austen-moe
run=("$epmoe" run -m "$model" -p "It is a truth universally acknowledged, that a single man" -n 48 --ignore-eos -q -t 1 --overlap off)

refuses() { # CODE "text in the line" OPTIONS…
    local code=$1 says=$2 found
    shift 2
    "$epmoe" place "$@" >"$work/stdout" 2>"$work/stderr"
    found=$?
    [ "$found" -eq "$code" ] && [ "$(wc -l <"$work/stderr")" -eq 1 ] && grep -qF -- "$says" "$work/stderr" &&
        [ ! -s "$work/stdout" ]
    result $? "place $*: expected exit code $code and one line with: $says"
}

"${run[@]}" --record-routing "$work/routing" >"$work/text" 2>"$work/stderr"
result $? "recording: expected exit code 0"
for goal in both decode prefill; do
    "$epmoe" place --from "$work/routing" --ranks 5 --home 4 --goal $goal -o "$work/placement" --report json >"$work/place" 2>"$work/stderr"
    result $? "$goal: expected exit code 0"
    "${run[@]}" --ranks 5 --placement "$work/placement" --profile-json "$work/profile" >"$work/stdout" 2>"$work/stderr"
    result $? "$goal: expected a run with the placement"
    cmp -s "$work/text" "$work/stdout"
    result $? "$goal: expected the same text"
    python3 - "$work" $goal <<'PY' 2>"$work/stderr"
import json, sys
place = json.load(open(f"{sys.argv[1]}/place"))
profile = json.load(open(f"{sys.argv[1]}/profile"))
ranks = json.load(open(f"{sys.argv[1]}/placement"))["layers"]
assert [len(layer) for layer in ranks] == [60] * 4 and all(layer[:4] == [0] * 4 for layer in ranks), ranks
assert all([layer.count(r) for r in range(5)] == [4, 14, 14, 14, 14] for layer in ranks), ranks
for kind in "decode", "prefill":
    for l, layer in enumerate(place["layers"]):
        found = profile[kind]["layers"][l]["ranks"]
        assert layer["placed"][kind]["rows"] == [r["rows"] for r in found], (kind, l, layer, found)
        assert layer["placed"][kind]["experts"] == [r["experts"] for r in found], (kind, l, layer, found)
        assert sum(layer["heat"]) == (profile["decode"]["rows"] + profile["prefill"]["rows"]) * 4
        assert layer["together"] and layer["together"][0]["rows"] >= layer["together"][-1]["rows"] > 0
key = {"decode": ("decode", "experts_over_mean"), "prefill": ("prefill", "rows_over_mean")}
for kind, figure in key.get(sys.argv[2], key["decode"]), key.get(sys.argv[2], key["prefill"]):
    assert place["placed"][kind][figure] < place["even"][kind][figure], (kind, place["placed"], place["even"])
PY
    result $? "$goal: expected the rows and experts that the run's profile has, and less than an even placement"
done

# copies: rows and experts as predicted, the same text. Few experts have most rows here, and there are more workers than these.
for i in 0 1 2 3 4 5 6 7; do
    echo "{\"id\": \"$i\", \"prompt\": \"$(printf 'and %.0s' $(seq $((i + 9))))\"}"
done >"$work/in"
many=("$epmoe" batch -m "$model" -i "$work/in" --max-batch 8 -n 12 --chunk 24 -q -t 1 --overlap off)
"${many[@]}" -o "$work/texts" --record-routing "$work/many" 2>"$work/stderr"
result $? "recording a batch: expected exit code 0"
"$epmoe" place --from "$work/many" --ranks 7 --replicas 16 -o "$work/copies" --report json >"$work/place" 2>"$work/stderr" &&
    "$epmoe" place --from "$work/many" --ranks 7 --replicas 16 >"$work/table" 2>"$work/stderr"
result $? "--replicas: expected exit code 0"
"${many[@]}" -o "$work/again" --ranks 7 --placement "$work/copies" --profile-json "$work/profile" 2>"$work/stderr"
result $? "--replicas: expected a run with the placement"
cmp -s "$work/texts" "$work/again"
result $? "--replicas: expected the same text"
python3 - "$work" <<'PY' 2>"$work/stderr"
import json, sys
place = json.load(open(f"{sys.argv[1]}/place"))
profile = json.load(open(f"{sys.argv[1]}/profile"))
layers = json.load(open(f"{sys.argv[1]}/copies"))["layers"]
copies = [[e for e in layer if isinstance(e, list)] for layer in layers]
assert sum(len(e) - 1 for layer in copies for e in layer) == place["copies"] > 0, place["copies"]
for layer in layers:
    held = [r for e in layer for r in (e if isinstance(e, list) else [e])]
    assert 60 <= len(held) <= 76 and max(held.count(r) for r in range(1, 7)) <= 13, held
assert all(len(set(e)) == len(e) for layer in copies for e in layer), copies
for kind in "decode", "prefill":
    for l, layer in enumerate(place["layers"]):
        found = profile[kind]["layers"][l]["ranks"]
        assert layer["copied"][kind]["rows"] == [r["rows"] for r in found], (kind, l, layer, found)
        assert layer["copied"][kind]["experts"] == [r["experts"] for r in found], (kind, l, layer, found)
for l, layer in enumerate(place["layers"]):
    named = [(e["expert"], e["ranks"]) for e in layer["experts_with_copies"]]
    assert named == [(i, ranks) for i, ranks in enumerate(layers[l]) if isinstance(ranks, list)], (l, named)
assert open(f"{sys.argv[1]}/table").read().splitlines()[2].startswith(f"# copies: placed, and {place['copies']} "), "table"
PY
result $? "--replicas: expected the rows and experts that the run's profile has, and even shares of all copies"
"$epmoe" replay "$work/many" --ranks 7 -n 1 -c --placement "$work/copies" >"$work/stdout" 2>"$work/stderr"
result $? "replay with copies: expected exit code 0"
"${run[@]}" --ranks 7 --placement "$work/copies" --combine sum >"$work/stdout" 2>"$work/stderr"
[ $? -eq 2 ] && grep -qF -- '--combine sum: expected a placement without copies of experts' "$work/stderr"
result $? "--combine sum with copies: expected exit code 2 and a line that says so"
"$epmoe" inspect "$model" --ranks 7 --placement "$work/copies" --emit "$work/plan" -o json >"$work/stdout" 2>"$work/stderr" &&
    python3 - "$work" <<'PY' 2>"$work/stderr"
import json, sys
a, b, place = (json.load(open(f"{sys.argv[1]}/{f}")) for f in ("copies", "plan", "place"))
plan = json.load(open(f"{sys.argv[1]}/stdout"))["plan"]
assert a["layers"] == b["layers"], "layers"
assert plan["copies"] == place["copies"] and sum(r["experts"] for r in plan["ranks"]) == 240 + plan["copies"], plan
PY
result $? "inspect --emit: expected the same copies, counted"

"${run[@]}" -p "Emma Woodhouse, handsome, clever" --record-routing "$work/other" >"$work/stdout" 2>"$work/stderr"
"$epmoe" place --from "$work/routing" --on "$work/other" --ranks 5 >"$work/stdout" 2>"$work/stderr"
result $? "--on: expected exit code 0"
grep -q "^# compared on $work/other$" "$work/stdout" && [ "$(grep -vc '^#' "$work/stdout")" -eq 5 ]
result $? "--on: expected a table of four layers and all"
"$epmoe" place --from "$work/routing" --ranks 2 >"$work/stdout" 2>"$work/stderr" && "$epmoe" place --from "$work/routing" --ranks 1 >>"$work/stdout"
result $? "one worker, and none: expected exit code 0"
"$epmoe" replay "$work/routing" --ranks 5 -n 1 -c --placement "$work/placement" >"$work/stdout" 2>"$work/stderr"
result $? "replay with the placement: expected exit code 0"

refuses 2 'expected --from ROUTING' --ranks 3
refuses 2 'expected --ranks N' --from "$work/routing"
refuses 3 'config.json: expected recorded routing' --from "$model/config.json" --ranks 3
refuses 2 '--home 61: expected at most 60' --from "$work/routing" --ranks 3 --home 61
refuses 2 '--replicas' --from "$work/routing" --ranks 3 --replicas -1
refuses 1 'cannot be written' --from "$work/routing" --ranks 3 -o /nowhere/placement
finish
