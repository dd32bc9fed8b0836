#!/usr/bin/env bash
# epmoe batch from outside: a run that is killed and gone on with ends as one that was not; the same
# lines from one process, from threads, over MPI, from a pipe and from epmoe run.
#   tests/program/batch.sh build/release/epmoe
. "$(dirname "$0")/../rig/begin.sh"
model=models/austen-moe

# requests of different lengths, and one that is wrong; fewer where EPMOE_TEST_PAIRS asks for the paths alone
requests=40 enough=30
[ -z "${EPMOE_TEST_PAIRS:-}" ] || { requests=16 enough=10; }
for i in $(seq $requests); do
    echo "{\"id\": \"r$i\", \"prompt\": \"Emma Woodhouse, chapter $i\", \"max_tokens\": $((40 + i * 17 % 90))," \
        "\"seed\": $i, \"ignore_eos\": true}"
done >"$work/in"
echo '{"id": "wrong", "prompt": 1}' >>"$work/in"
job=(batch -m "$model" -i "$work/in" --max-batch 4 -t 1)

"$epmoe" "${job[@]}" -o "$work/whole" 2>"$work/summary"
result $? "exit code $?"
[ "$(wc -l <"$work/whole")" -eq $((requests + 1)) ]
result $? "expected $((requests + 1)) lines, found $(wc -l <"$work/whole")"
[ "$(wc -l <"$work/summary")" -eq 1 ] && grep -q "$requests requests, 1 error.*tokens/s.*mean batch" "$work/summary"
result $? "the summary: $(cat "$work/summary")"
sort "$work/whole" >"$work/sorted"

# killed in the middle, again and again
kills=0
: >"$work/out"
for round in $(seq 200); do
    "$epmoe" "${job[@]}" -o "$work/out" --resume 2>/dev/null &
    for ((wait = 0; wait < 2000; wait++)); do # until it has written something more
        [ "$(wc -l <"$work/out")" -ge $((round * 6)) ] || ! kill -0 $! 2>/dev/null && break
        sleep 0.005
    done
    kill -9 $! 2>/dev/null && kills=$((kills + 1))
    wait $! 2>/dev/null
    [ "$(wc -l <"$work/out")" -ge $enough ] && break
done
[ "$kills" -gt 0 ]
result $? "expected kills, found $kills"
"$epmoe" "${job[@]}" -o "$work/out" --resume 2>"$work/summary"
result $? "--resume after kill -9"
sort "$work/out" | cmp - "$work/sorted"
result $? "--resume after kill -9 gave other lines"
"$epmoe" "${job[@]}" -o "$work/out" --resume 2>"$work/summary"
grep -q "0 requests, $((requests + 1)) done before" "$work/summary"
result $? "nothing was left to do: $(cat "$work/summary")"

# one writer at a time
mkfifo "$work/pipe"
"$epmoe" batch -m "$model" -i "$work/pipe" -o "$work/locked" -t 1 -q &
exec 9>"$work/pipe"
head -n 1 "$work/in" >&9
for ((wait = 0; wait < 2000; wait++)); do
    [ -s "$work/locked" ] && break # a result comes while the pipe is still open
    sleep 0.005
done
[ -s "$work/locked" ]
result $? "no result while the input is open"
"$epmoe" "${job[@]}" -o "$work/locked" --resume 2>"$work/stderr"
[ $? -eq 1 ] && grep -q 'another run writes to it' "$work/stderr"
result $? "two runs wrote to one file"
exec 9>&-
wait $!
result $? "a pipe as input"

# other company, other ranks, other transports
"$epmoe" "${job[@]}" --max-batch 32 --ranks 5 -o /dev/stdout 2>/dev/null | sort | cmp - "$work/sorted"
result $? "--max-batch 32 --ranks 5 differs"
"$epmoe" "${job[@]}" -i - --chunk 7 -o "$work/stdin" 2>/dev/null <"$work/in" &&
    sort "$work/stdin" | cmp - "$work/sorted"
result $? "from stdin it differs"
"$epmoe" "${job[@]}" -i - -o - 2>"$work/stderr" <"$work/in" | sort | cmp - "$work/sorted"
result $? "from stdin to stdout it differs: $(cat "$work/stderr")"
if command -v mpirun >/dev/null; then
    tests/rig/mpi.sh 3 "$epmoe" "${job[@]}" -o "$work/mpi" >/dev/null 2>"$work/stderr"
    result $? "mpirun's exit code $?: $(tail "$work/stderr")"
    sort "$work/mpi" | cmp - "$work/sorted"
    result $? "mpirun differs"
    tests/rig/mpi.sh 3 "$epmoe" "${job[@]}" -o "$work/mpi" >/dev/null 2>"$work/stderr"
    [ $? -eq 2 ] && [ "$(grep -c 'expected a new or empty file' "$work/stderr")" -eq 1 ]
    result $? "an error under mpirun: $(cat "$work/stderr")"
else
    echo "batch: skipped MPI: no mpirun"
fi
text=$("$epmoe" run -m "$model" -p "Emma Woodhouse, chapter 7" -n $((40 + 7 * 17 % 90)) --seed 7 --ignore-eos --no-echo \
    -q -t 1)
python3 -c 'import json, sys
lines = map(json.loads, open(sys.argv[1]))
sys.exit(next(l["text"] for l in lines if l["id"] == "r7").strip() != sys.argv[2].strip())' "$work/whole" "$text"
result $? "epmoe run gives another text than the batch"

finish
