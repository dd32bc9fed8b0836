#!/usr/bin/env bash
# Output that is lost is an error: stdout that cannot be written, files that come to a limit, signals
# while a file is being written.   tests/program/output.sh build/ci/epmoe
. "$(dirname "$0")/../rig/begin.sh"
model=$PWD/models/austen-moe
export OMP_WAIT_POLICY=passive

says() { # text: stderr is this one line
    [ "$(wc -l <"$work/stderr")" -eq 1 ] && grep -qF -- "$1" "$work/stderr"
}

# ---- stdout ----

commands=("run -m $model -p Emma -n 5 -q" "run -m $model -p Emma -n 5 -q --ids" "inspect $model"
    "inspect $model -o json" "tokenize -m $model -p Emma" "--help" "run --help" "--version" "doctor"
    "bench -m synth:tiny-moe -p 8 -n 2 -r 1 -o json")
for command in "${commands[@]}"; do
    "$epmoe" $command >/dev/full 2>"$work/stderr"
    [ $? -eq 1 ] && says 'standard output: cannot be written: No space left on device'
    result $? "$command on a full disk: expected exit code 1 and one line"
    "$epmoe" $command >&- 2>"$work/stderr"
    [ $? -eq 1 ] && says 'standard output: cannot be written: Bad file descriptor'
    result $? "$command without stdout: expected exit code 1 and one line"
done
"$epmoe" run -m "$model" -p Emma -n 400 --ignore-eos -c 500 >/dev/full 2>"$work/stderr"
says 'standard output: cannot be written'
result $? "a run whose output is lost: expected one line, and no summary of what nobody has read"

# More than a pipe holds, so that the program is still writing when its reader has left.
seq 100000 >"$work/numbers"
{
    env --default-signal=PIPE "$epmoe" tokenize -m "$model" <"$work/numbers" 2>"$work/stderr"
    echo $? >"$work/code"
} | head -1 >"$work/stdout"
[ "$(cat "$work/code")" -eq 141 ] && [ ! -s "$work/stderr" ]
result $? "a reader that leaves: expected exit code 141 in silence, found $(cat "$work/code")"
{
    env --ignore-signal=PIPE "$epmoe" tokenize -m "$model" <"$work/numbers" 2>"$work/stderr"
    echo $? >"$work/code"
} | head -1 >"$work/stdout"
[ "$(cat "$work/code")" -eq 141 ] && [ ! -s "$work/stderr" ]
result $? "the same with SIGPIPE ignored: expected exit code 141 in silence, found $(cat "$work/code")"

python3 - "$epmoe" "$model" <<'PY'
import os, select, subprocess, sys, threading, time
r, w = os.pipe()
os.set_blocking(w, False)
p = subprocess.Popen([sys.argv[1], "tokenize", "-m", sys.argv[2]], stdin=subprocess.PIPE, stdout=w)
feeder = threading.Thread(target=lambda: (p.stdin.write(b"it is a truth\n" * 30000), p.stdin.close()))
feeder.start()
while select.select([], [w], [], 0)[1]:  # until the pipe is full: the writer can only wait or fail
    time.sleep(0.01)
os.close(w)
lines = 0
while part := os.read(r, 65536):
    lines += part.count(b"\n")
sys.exit(p.wait() != 0 or lines != 30000)
PY
result $? "a slow reader that made the pipe non-blocking: expected all lines"

# ---- descriptors that are closed at the start ----

"$epmoe" logits -m "$model" --tokens 1,2,3 -o "$work/whole" 2>"$work/stderr"
"$epmoe" logits -m "$model" --tokens 1,2,3 -o "$work/closed" -v <&- >&- 2>&-
[ $? -eq 0 ] && cmp -s "$work/whole" "$work/closed"
result $? "logits without 0, 1 and 2: expected the same file, and exit code 0 as nothing was to be printed"
echo '{"prompt": "Emma", "max_tokens": 3}' >"$work/in"
"$epmoe" batch -m "$model" -i "$work/in" -o "$work/out" <&- 2>&-
[ $? -eq 0 ] && [ "$(wc -l <"$work/out")" -eq 1 ] && python3 -m json.tool "$work/out" >/dev/null
result $? "batch without stdin and stderr: expected a result, and no summary in the file"

# ---- files that end half way ----

limited() { # WHAT, arguments: with files of at most 8 KiB
    local what=$1
    shift
    (ulimit -f 8 && exec "$epmoe" "$@") 2>"$work/stderr"
    [ $? -eq 1 ] && grep -q 'cannot be written: File too large' "$work/stderr"
    result $? "$what beyond the limit of a file: expected exit code 1 and the reason"
    [ -z "$(find "$work" -name '*.part-*')" ]
    result $? "$what beyond the limit of a file: left a partial file"
}
limited logits logits -m synth:tiny-moe --tokens 1,2,3,4,5,6,7 -o "$work/limited"
limited synth synth --preset tiny-moe -o "$work/limited"
[ ! -e "$work/limited" ]
result $? "synth beyond the limit of a file: left a directory"
"$epmoe" logits -m "$model" --tokens 1,2,3 -o /dev/full 2>"$work/stderr"
[ $? -eq 1 ] && says '/dev/full: cannot be written: No space left on device'
result $? "logits to a full device: expected the reason"

for signal in HUP TERM INT; do
    env --default-signal=HUP,TERM,INT "$epmoe" synth --preset qwen1.5-7b --layers 1 -o "$work/synth" 2>"$work/stderr" &
    job=$!
    while kill -0 "$job" 2>/dev/null && [ -z "$(find "$work/synth" -name '*.part-*' 2>/dev/null)" ]; do
        sleep 0.01
    done
    kill -"$signal" "$job"
    wait "$job"
    [ $? -eq $((128 + $(kill -l "$signal"))) ] && [ "$(wc -l <"$work/stderr")" -eq 1 ]
    result $? "synth, SIG$signal: expected its exit code and one line"
    [ ! -e "$work/synth" ]
    result $? "synth, SIG$signal: left something behind"
done
finish
