#!/usr/bin/env bash
# Ranks over MPI that are killed, stopped or hang, while they load, in prefill, in decode and between
# steps; rank 0 among them. The run ends in time with exit code 4, one line, all of a batch's
# finished results on disk, and nothing left running.
# With EPMOE_TEST_PAIRS each end and each moment comes once, not each end at each moment (docs/testing.md).
#   tests/program/failure.sh build/ci/epmoe build/ci/tests/libfault.so
fault=$(realpath "$2")
. "$(dirname "$0")/../rig/ends.sh"
needs mpirun
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0:verify_asan_link_order=0"
model=$PWD/models/austen-moe
timeout=2
requests=400 signals=(KILL STOP) threads=(1 3) pairs=${EPMOE_TEST_PAIRS:-}
[ -z "$pairs" ] || { requests=150 signals=(KILL) threads=(3); }
job=("$epmoe" run -m "$model" -p "It is a truth universally acknowledged" -n 40 --temp 0 -q -t 1
    --timeout "$timeout" --placement even)

# try NAME RANK AT HOW "the line says" [OPTION…]: a run of 3 ranks with a fault. Starting and what comes
# before the fault is given 15 s.
try() {
    local name=$1 start code
    start=$(now)
    FAULT_RANK=$2 FAULT_AT=$3 FAULT_HOW=$4 timeout -k 5 100 launch/mpirun.sh -n 3 -x LD_PRELOAD="$fault" \
        "${job[@]}" "${@:6}" >"$work/stdout" 2>"$work/stderr"
    code=$?
    ended "$name" "$code" 4 "$(since "$start")" $((timeout + 5 + 15)) "$5"
}

# Workers hold experts, and most of the output matrix.
cat >"$work/outputs.json" <<JSON
{"ranks": 3, "experts": [$(printf '1,%.0s' {1..30})$(printf '2,%.0s' {1..29})2], "outputs": [64, 2048, 1984]}
JSON

# A worker sends a message of rows a layer; where it has outputs, one more a step.
layers=$("$epmoe" inspect "$model" | grep -oE '[0-9]+ layers' | grep -oE '[0-9]+')
decode=$((layers * 7 + 3))
quiet='no sign of life for 2.0 s' stuck='no progress for 2.0 s'
# a thread that hangs inside MPI keeps signs of life from being sent
# where rank 0 is when a worker is killed at load
early='(while starting|while loading|before the first step)'
hanging='no (progress|sign of life) for 2.0 s'

# at NUMBER HOW: is this moment tried with this end? In pairs each moment has one end.
at() {
    local ends=(kill stop hang)
    [ -z "$pairs" ] || [ "${ends[$1 % 3]}" = "$2" ]
}

for how in kill stop hang; do
    case $how in
    kill) what='killed by signal 9 \(Killed\)' ;;
    stop) what=$quiet ;;
    hang) what=$hanging ;;
    esac
    ! at 0 $how ||
        try "$how at load" 2 load:9 $how "lost rank 2 on [^ ]+: $what,.* $early; no step was finished"
    ! at 1 $how || try "$how in prefill" 2 rows:3 $how \
        "lost rank 2 on [^ ]+: $what,.* in layer [0-9]+ of step 1 \(prefill of [0-9]+ rows\); no step was"
    ! at 2 $how || try "$how in decode" 1 rows:$decode $how \
        "lost rank 1 on [^ ]+: $what,.* in layer [0-9]+ of step 8 \(decode of 1 row\); last finished step: 7"
    ! at 3 $how || try "$how while logits come back" 1 rows:$((8 * (layers + 1))) $how \
        "lost rank 1 on [^ ]+: $what,.* between steps; last finished step: 8" \
        --placement "$work/outputs.json"
done
try "rank 0 killed in decode" 0 rows:$((2 * decode)) kill "lost rank 0 on [^ ]+: killed by signal 9"
try "rank 0 stopped at load" 0 load:9 stop "lost rank 0 on [^ ]+: $quiet"
try "rank 0 hangs in decode" 0 rows:$((2 * decode)) hang "lost rank 0 on [^ ]+: $hanging.*last finished step: 7"
if [ -z "$pairs" ]; then
    try "rank 0 hangs at load" 0 load:9 hang "lost rank 0 on [^ ]+: $stuck"
    try "rank 0 stopped in decode" 0 rows:$((2 * decode)) stop "lost rank 0 on [^ ]+: $quiet.*last finished step: 7"
fi

# ---- batches, with signals from outside ----

for i in $(seq "$requests"); do
    echo "{\"id\": \"r$i\", \"prompt\": \"Emma, chapter $i\", \"max_tokens\": $((5 + i % 23)), \"ignore_eos\": true}"
done >"$work/in"
"$epmoe" batch -m "$model" -i "$work/in" -o "$work/whole" --max-batch 4 -t 1 -q
sort "$work/whole" >"$work/sorted"

# Start a batch, by $run, and wait until it has written some lines. With default signals: a shell's
# `&` would have SIGINT ignored. A worker is slow: mpirun takes a second to end, in which a fast
# machine would have written all.
slow=(env FAULT_RANK=1 FAULT_AT=rows:1 FAULT_HOW=slow)
run=("${slow[@]}" launch/mpirun.sh -n 3 -x LD_PRELOAD="$fault")
start_batch() { # [option…]
    rm -f "$work/out"
    python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])' "${run[@]}" "$epmoe" batch -m "$model" -i "$work/in" -o "$work/out" \
        --max-batch 4 -t 1 -q --timeout "$timeout" "$@" >"$work/stdout" 2>"$work/stderr" </dev/null &
    job_pid=$!
    while kill -0 "$job_pid" 2>/dev/null; do # it has its own end: the number of requests
        [ -s "$work/out" ] && [ "$(wc -l <"$work/out")" -ge 10 ] && return
        sleep 0.01
    done
}

# end_batch NAME CODE LIMIT "line", after the signal
end_batch() {
    local start=$1 name=$2 want=$3 limit=$4 says=$5 code
    wait "$job_pid"
    code=$?
    ended "$name" "$code" "$want" "$(since "$start")" "$limit" "$says"
    whole_lines "$work/out"
    result $? "$name: lines"
    [ "$(wc -l <"$work/out")" -lt "$requests" ] && [ "$(sort "$work/out" | comm -23 - "$work/sorted" | wc -l)" -eq 0 ]
    result $? "$name: expected some of the results and no other, found $(wc -l <"$work/out")"
}

for signal in "${signals[@]}"; do
    start_batch
    victim=$(ours 2)
    start=$(now)
    kill -"$signal" "$victim"
    end_batch "$start" "batch, worker $signal" 4 $((timeout + 5)) 'lost rank 2 on '
done
"$epmoe" batch -m "$model" -i "$work/in" -o "$work/out" --max-batch 4 -t 1 -q --resume &&
    sort "$work/out" | cmp -s - "$work/sorted"
result $? "--resume after a lost rank"

start_batch
start=$(now)
kill -INT "$job_pid"
end_batch "$start" "Ctrl-C, runner" 130 5 '^epmoe: interrupted'
if [ -z "$pairs" ]; then
    start_batch
    start=$(now)
    kill -TERM "$job_pid"
    end_batch "$start" "SIGTERM, runner" 143 5 '^epmoe: terminated'
fi
start_batch
victim=$(ours 0)
start=$(now)
kill -INT "$victim"
end_batch "$start" "SIGINT, rank 0" 130 5 '^epmoe: interrupted in layer|^epmoe: interrupted between'

run=(env)
for ranks in "${threads[@]}"; do
    start_batch --ranks "$ranks"
    start=$(now)
    kill -INT "$job_pid"
    end_batch "$start" "Ctrl-C, $ranks ranks in one process" 130 5 '^epmoe: interrupted$'
done

# mpirun itself is killed: nobody is left to tell, but nothing is left, either
run=("${slow[@]}" mpirun --allow-run-as-root --oversubscribe -n 3 -x LD_PRELOAD="$fault")
start_batch
kill -KILL "$job_pid"
wait "$job_pid" 2>/dev/null
nothing_left
result $? "mpirun killed: nothing left"

finish
