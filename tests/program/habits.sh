#!/usr/bin/env bash
# What people write because other programs take it, and what they then get.
#   tests/program/habits.sh build/ci/epmoe
. "$(dirname "$0")/../rig/begin.sh"
model=$PWD/models/austen-moe
run=("$epmoe" run -m "$model")

same() { # WHAT: stdout is that of the file "expected"
    cmp -s "$work/expected" "$work/stdout"
    result $? "$1: expected $(head -c 200 "$work/expected" | od -c | head -5), found $(head -c 200 "$work/stdout" | od -c | head -5)"
}

# ---- help and version ----

for word in help -h; do
    "$epmoe" --help >"$work/expected"
    "$epmoe" $word >"$work/stdout"
    same "epmoe $word"
done
"$epmoe" run --help >"$work/expected"
"$epmoe" help run >"$work/stdout"
same "epmoe help run"
"$epmoe" --version >"$work/expected"
"$epmoe" version >"$work/stdout"
same "epmoe version"
"$epmoe" help | grep -q 'launch/mpirun.sh -n'
result $? "help: expected the name of the script that starts ranks"

# ---- lengths ----

"${run[@]}" -p Emma -c 64 -n 63 --ignore-eos -q >"$work/expected" 2>"$work/stderr"
"${run[@]}" -p Emma -c 64 -n -1 --ignore-eos >"$work/stdout" 2>"$work/stderr"
same "-n -1: until the context is full"
grep -q '^prompt 1 token, generated 63 (length)' "$work/stderr"
result $? "-n -1: expected 63 new tokens, and one token in the singular"
"${run[@]}" -p Emma -c 64 -n 100 --ignore-eos -q >"$work/stdout" 2>"$work/stderr"
same "-n beyond the context: as many as fit"
[ "$(cat "$work/stderr")" = 'epmoe: -n 100: expected at most 63 new tokens after a prompt of 1 in 64 positions (-c sets them); generating so many' ]
result $? "-n beyond the context: expected a line that says so"
"${run[@]}" -p Emma -n 16777216 --stop ' ' -q >"$work/stdout" 2>"$work/stderr"
[ $? -eq 0 ] && grep -q 'generating so many' "$work/stderr" && ! grep -q -- '-c sets' "$work/stderr"
result $? "-n beyond what the model knows: expected no hint at -c, which cannot help"

# ---- sampling ----

sampled=(-p Emma -n 30 --temp 1.5 --top-p 1 --seed 3 -q)
"${run[@]}" "${sampled[@]}" --top-k 0 >"$work/expected"
"${run[@]}" "${sampled[@]}" --top-k -1 >"$work/stdout"
same "--top-k -1: all, as 0"
"${run[@]}" "${sampled[@]}" --top-k 1 >"$work/stdout"
! cmp -s "$work/expected" "$work/stdout"
result $? "--top-k 1: expected another text"
"${run[@]}" -p Emma -n 40 -q >"$work/whole"
cut=$(cut -c 12-16 "$work/whole" | head -1)
"${run[@]}" -p Emma -n 40 -q --stop "$cut" >"$work/expected"
"${run[@]}" -p Emma -n 40 -q --stop 'never this' --stop "$cut" --stop 'nor this' >"$work/stdout"
same "several --stop: the text ends before the first that comes"
[ "$(wc -c <"$work/stdout")" -lt "$(wc -c <"$work/whole")" ]
result $? "several --stop: expected a shorter text"

# ---- prompts from files ----

printf 'It is\na truth' >"$work/plain"
printf 'It is\r\na truth\r\n' >"$work/dos"
"${run[@]}" -f "$work/plain" -n 12 -q >"$work/expected"
"${run[@]}" -f "$work/dos" -n 12 -q >"$work/stdout"
same "-f: one newline at the end is dropped, and CR before LF"
"${run[@]}" -p - -n 12 -q <"$work/dos" >"$work/stdout"
same "-p -: the same"
{ cat "$work/plain" && printf '\n\n'; } | "${run[@]}" -p - -n 0 -q >"$work/stdout"
printf 'It is\na truth\n\n' >"$work/expected" # one stays, and the program ends the line
same "-p -: no more than one newline is dropped"
"${run[@]}" -f "$work/dos" -n 0 -q --raw >"$work/stdout"
{ cat "$work/dos" && echo; } >"$work/expected"
same "--raw: as the file has it"
printf '\n' | "${run[@]}" -p - -n 1 >"$work/stdout" 2>"$work/stderr"
[ $? -eq 2 ] && grep -q 'the prompt is empty' "$work/stderr"
result $? "a file with a newline alone is an empty prompt"

"${run[@]}" -p - -n 1 <"$work" >"$work/stdout" 2>"$work/stderr"
[ $? -eq 3 ] && grep -q 'cannot be read: Is a directory' "$work/stderr"
result $? "stdin that cannot be read is an error, and no end"
"$epmoe" tokenize -m "$model" <"$work" >"$work/stdout" 2>"$work/stderr"
[ $? -eq 3 ] && grep -q 'cannot be read: Is a directory' "$work/stderr"
result $? "tokenize: the same"
"${run[@]}" -f - -n 0 -q <"$work/plain" >"$work/stdout"
{ cat "$work/plain" && echo; } >"$work/expected"
same "-f -: stdin"

# ---- who holds what follows from --expect, not from how long one run is ----

for n in 3 200; do
    "${run[@]}" -p "It is" -n $n --ignore-eos --ranks 5 -v -q 2>&1 >/dev/null | grep -o 'rank [0-9].* [0-9]* experts' |
        sort >"$work/held.$n"
done
[ -s "$work/held.3" ] && cmp -s "$work/held.3" "$work/held.200"
result $? "placement: other experts with -n 3 than with -n 200: $(diff "$work/held.3" "$work/held.200")"

# ---- batches ----

printf '{"id": "a", "prompt": "Emma", "max_tokens": 4}\n{"id": "b", "prompt": 4}\n' >"$work/in.jsonl"
rm "$work/expected"
"$epmoe" batch -m "$model" -i "$work/in.jsonl" -o "$work/expected" -q
"$epmoe" batch -m "$model" -i "$work/in.jsonl" -o - >"$work/stdout" 2>"$work/stderr"
same "batch -o -: the results on stdout"
grep -q '^1 request, 1 error | ' "$work/stderr"
result $? "batch -o -: expected the summary on stderr, of one request in the singular"
[ ! -e "./-" ]
result $? "batch -o -: expected no file called -"
"$epmoe" batch -m "$model" -i - -o - <"$work/in.jsonl" >"$work/stdout" 2>"$work/stderr"
same "batch -i - -o -: from stdin to stdout"
"$epmoe" batch -m "$model" -i "$work/in.jsonl" -o - --resume >"$work/stdout" 2>"$work/stderr"
[ $? -eq 2 ] && grep -q -- '--resume takes a plain file' "$work/stderr"
result $? "batch -o - --resume: expected to be refused"
"$epmoe" batch -m "$model" -i "$work/in.jsonl" -o - -q >/dev/full 2>"$work/stderr"
[ $? -eq 1 ] && grep -q 'standard output: cannot be written' "$work/stderr"
result $? "batch -o - on a full disk: expected exit code 1 and the reason"

block() { # heading: the first block of code under it in docs/batch.md
    awk -v heading="## $1" '$0 == heading { here = 1 } here && /^```/ { if (inside) exit; inside = 1; next } inside' docs/batch.md
}
block 'A line of input' >"$work/in.jsonl"
block 'A line of output' | sort >"$work/expected"
"$epmoe" batch -m models/austen-moe -i "$work/in.jsonl" -o - -q | sort >"$work/stdout"
[ -s "$work/expected" ] && same "the example of docs/batch.md"
finish
