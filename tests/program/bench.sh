#!/usr/bin/env bash
# epmoe bench: lists of prompts, batches and ranks; CSV has what JSON has; --serve serves every request
# and its figures are in order; --ablation runs what it says.   tests/program/bench.sh build/ci/epmoe
. "$(dirname "$0")/../rig/begin.sh"
bench=("$epmoe" bench -m models/austen-moe -t 1)

refuses() { # "text in the line" OPTIONS…
    local says=$1 found
    shift
    "${bench[@]}" "$@" >"$work/stdout" 2>"$work/stderr"
    found=$?
    [ "$found" -eq 2 ] && [ "$(wc -l <"$work/stderr")" -eq 1 ] && grep -qF -- "$says" "$work/stderr" &&
        [ ! -s "$work/stdout" ]
    result $? "bench $*: expected exit code 2 and one line with: $says"
}

checked() { # what, program in Python that reads stdout
    python3 -c "import csv, json, sys
$2" <"$work/stdout" 2>"$work/stderr"
    result $? "$1"
}

"${bench[@]}" -p 16,5 -n 3 -b 1,2 -r 2 -o csv >"$work/stdout" 2>"$work/stderr"
result $? "lists: expected exit code 0"
checked "CSV: expected a result for each prompt and batch, prompts outermost" '
rows = list(csv.DictReader(sys.stdin))
tests = [(row["test"], row["batch"]) for row in rows]
assert tests == [(kind, batch) for length in (16, 5) for batch in "12" for kind in (f"pp{length}", "tg3")], tests
for row in rows:
    assert None not in row and None not in row.values(), row
    assert row["model"] == "models/austen-moe" and row["dtype"] == "bf16", row
    assert float(row["roof_fraction"]) > 0 and int(row["peak_bytes"]) > 20e6 and row["threads"] == "1", row
    assert row["bound"] in ("flops", "bytes"), row'

"${bench[@]}" -p 16 -n 2 -r 2 -o csv --ranks 1,3 >"$work/csv" 2>"$work/stderr"
result $? "ranks: expected exit code 0"
"${bench[@]}" -p 16 -n 2 -r 2 -o json --ranks 1,3 >"$work/stdout" 2>"$work/stderr"
result $? "ranks: expected exit code 0"
checked "CSV: expected one header, and all that JSON has" "
runs = json.load(sys.stdin)
rows = list(csv.DictReader(open('$work/csv')))
assert [row['ranks'] for row in rows] == ['1', '1', '3', '3'], rows
assert [run['results'][0]['ranks'] for run in runs] == [1, 3], runs
own = {'tokens_per_s': ['tokens_per_s', 'mean', 'sd'], 'ttft_s': ['seconds'], 'tpot_s': ['seconds']}
wanted = [name for key in runs[0]['results'][0] for name in own.get(key, [key])]
wanted += list(runs[0]['exchange']) + ['model', 'dtype', 'commit', 'cpu', 'isa', 'threads', 'load_s', 'peak_bytes']
assert not [name for name in wanted if name not in rows[0]], wanted"

# a run that is over is in the file while the next one goes on, and a signal leaves it there
"${bench[@]}" -p 16 -n 2 -r 1 -o csv --ranks 1,2,3 >"$work/over" 2>"$work/stderr" &
pid=$!
while kill -0 $pid 2>/dev/null && [ ! -s "$work/over" ]; do sleep 0.05; done
kill -TERM $pid 2>/dev/null
wait $pid
[ $? -eq 143 ] && [ "$(head -n 2 "$work/over" | grep -c pp16)" -eq 1 ] && [ "$(grep -c pp16 "$work/over")" -lt 3 ]
result $? "a list of ranks, ended by a signal: expected the first run's results, found $(cat "$work/over")"

"${bench[@]}" -p 16,5 -n 2 -r 1 --ranks 1,2 >"$work/stdout" 2>"$work/stderr"
[ "$(grep -c '^| pp16 ' "$work/stdout")" -eq 2 ] && [ "$(grep -c 'strategy exact' "$work/stdout")" -eq 1 ]
result $? "Markdown: expected a table for each number of ranks"

for ranks in 1 2; do
    "${bench[@]}" --serve 200 --requests 9 -p 7 -n 5 -b 2 --ranks "$ranks" -o json >"$work/stdout" 2>"$work/stderr"
    result $? "serving, $ranks ranks: expected exit code 0"
    checked "serving, $ranks ranks: expected all requests, at most two together, and figures in order" "
r = json.load(sys.stdin)
assert (r['requests'], r['prompt'], r['generate'], r['at_a_time'], r['ranks']) == (9, 7, 5, 2, $ranks), r
assert 1 <= r['mean_batch'] <= 2 and 0 <= r['most_waiting'] < 9, r
for q in (r['ttft_s'], r['tpot_s'], r['itl_s'], r['latency_s']):
    assert 0 < q['p50'] <= q['p90'] <= q['p99'], q
assert r['ttft_s']['mean'] < r['latency_s']['mean'] < r['seconds'], r
assert abs(r['itl_s']['mean'] - r['tpot_s']['mean']) < 1e-6 and r['itl_s']['p99'] >= r['tpot_s']['p50'], r
rates = [9 / r['seconds'], 9 * 5 / r['seconds'], 9 * 12 / r['seconds']]
assert all(abs(r[key] / rate - 1) < 1e-6 for key, rate in zip(('done_per_s', 'new_tokens_per_s', 'tokens_per_s'), rates)), r
assert abs(r['latency_s']['mean'] - r['ttft_s']['mean'] - 4 * r['tpot_s']['mean']) < 1e-6, r"
done
"${bench[@]}" --serve 1000 --requests 20 -p 3 -n 8 -b 1 -o json >"$work/stdout" 2>"$work/stderr"
checked "more requests than one slot serves: expected that they wait" '
r = json.load(sys.stdin)
assert r["most_waiting"] > 0 and r["mean_batch"] == 1, r'
"${bench[@]}" --serve 500 --requests 3 -p 3 -n 2 -o csv --ranks 1,2 >"$work/stdout" 2>"$work/stderr"
checked "serving as CSV: expected one header and a row for each number of ranks" '
rows = list(csv.DictReader(sys.stdin))
assert [row["ranks"] for row in rows] == ["1", "2"] and rows[0]["at_a_time"] == "32", rows
assert all(float(value) >= 0 for row in rows for value in row.values()), rows'

# In f32 each stage computes the same bits; bf16 differs by rounding, what stands beside is another model.
"${bench[@]}" --ablation -p 6 -n 3 -t 2 -o json --dense synth:tiny-moe >"$work/stdout" 2>"$work/stderr"
result $? "ablation: expected exit code 0"
checked "ablation: expected ten stages, those of f32 with the same logits and those of bf16 near them" '
rows = json.load(sys.stdin)["ablation"]
of = lambda key: [row.get(key) for row in rows]
assert of("dtype") == ["f32"] * 4 + ["bf16"] * 6 and of("threads") == [1] * 6 + [2] * 4, rows
assert of("step_rows") == [4] * 7 + [6, 48, 6] and of("batch") == [1] * 8 + [8, 1], rows
assert of("isa")[:5] == ["plain"] * 5 and rows[9]["model"] == "synth:tiny-moe", rows
differ = of("logits_difference")
assert differ[:4] == [0] * 4 and all(0 < d < 0.01 for d in differ[4:8]) and differ[8:] == [None] * 2, differ
assert all(row["prefill_tokens_per_s"] > 0 and row["decode_tokens_per_s"] > 0 for row in rows), rows'
"${bench[@]}" --ablation -p 6 -n 3 -o csv >"$work/stdout" 2>"$work/stderr"
checked "ablation as CSV: expected nine stages" '
rows = list(csv.DictReader(sys.stdin))
assert len(rows) == 9 and None not in rows[0] and rows[0]["change"] == "every row through every expert", rows'

refuses '--ablation goes without -b' --ablation -b 2
refuses '--ablation goes without --dtype' --ablation --dtype f32
refuses '--ablation goes without --serve' --ablation --serve 2
refuses '--ablation goes without --ranks' --ablation --ranks 1
refuses '--ablation takes one -p of 1 or more' --ablation -p 0
refuses "--dense needs --ablation" --dense synth:qwen1.5-7b
refuses '-p takes up to 16 sizes' -p 1,x
refuses '--ranks takes up to 16 sizes from 1 to 1024' --ranks 0
refuses '--serve takes one -p of 1 or more and one -b' --serve 5 -p 1,2
refuses '--serve takes one -p of 1 or more and one -b' --serve 5 -b 1,2
refuses '--serve takes one -p of 1 or more and one -b' --serve 5 -p 0
refuses '--serve takes -n of 1 or more and no -r' --serve 5 -r 2
refuses '--serve takes -n of 1 or more and no -r' --serve 5 -n 0
refuses '--serve takes --requests and -n of at most 2147483647 new tokens' --serve 5 --requests 1000000 -n 3000
refuses '--requests needs --serve RATE' --requests 5
refuses 'expected one --ranks, found 1,2' --ranks 1,2 --trace "$work/trace"
finish
