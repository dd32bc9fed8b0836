#!/usr/bin/env bash
# The main job: text in, text out; the same bytes from one process, from threads and over MPI.
#   tests/program/main_job.sh build/release/epmoe
set -euo pipefail
epmoe=$(realpath "$1")
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prompt='It is a truth universally acknowledged'
job=(run -m models/austen-moe -p "$prompt" -n 64)
complain() {
    echo "main_job: $1"
    exit 1
}

"$epmoe" "${job[@]}" >"$work/alone" 2>"$work/summary"
grep -qF "$prompt" "$work/alone" || complain "the prompt is not in the output"
[ "$(wc -w <"$work/alone")" -gt 20 ] || complain "expected more than 20 words, found $(cat "$work/alone")"
iconv -f UTF-8 -t UTF-8 "$work/alone" >/dev/null || complain "the text is not UTF-8"
[ "$(wc -l <"$work/summary")" -eq 1 ] || complain "expected a summary of one line"
for word in prompt generated TTFT TPOT prefill decode tokens/s; do
    grep -q "$word" "$work/summary" || complain "no $word in the summary: $(cat "$work/summary")"
done

"$epmoe" "${job[@]}" 2>/dev/null | cmp - "$work/alone" || complain "the same seed gave another text"
"$epmoe" "${job[@]}" --seed 1 2>/dev/null | cmp -s - "$work/alone" && complain "another seed gave the same text"
"$epmoe" "${job[@]}" --ranks 5 2>/dev/null | cmp - "$work/alone" || complain "--ranks 5 differs"
"$epmoe" run -m models/austen-moe -p - -n 64 2>/dev/null < <(printf %s "$prompt") |
    cmp - "$work/alone" || complain "the prompt from stdin differs"
ids=$("$epmoe" run -m models/austen-moe --tokens 5,6,7 -n 8 --temp 0 --ignore-eos --ids 2>/dev/null)
[ "$(wc -w <<<"$ids")" -eq 8 ] || complain "expected 8 ids, found $ids"

# a stop string ends the text before it
word=$(tr -s ' \n' '\n\n' <"$work/alone" | sed -n 12p)
"$epmoe" "${job[@]}" --stop " $word" 2>/dev/null >"$work/stopped"
grep -qF " $word" "$work/stopped" && complain "--stop did not stop before \"$word\""
head -c 20 "$work/stopped" | cmp - <(head -c 20 "$work/alone") || complain "--stop changed the text"

if command -v mpirun >/dev/null; then
    tests/rig/mpi.sh 5 "$epmoe" "${job[@]}" 2>/dev/null | cmp - "$work/alone" || complain "mpirun differs"
else
    echo "main_job: skipped MPI: no mpirun"
fi
echo "1 passed, 0 failed"
