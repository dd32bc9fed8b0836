#!/usr/bin/env bash
# What is around a run under MPI: launchers, hosts and places for files that are not as Open MPI wants
# them, stdout that cannot be written, and what is left after a kill.
#   tests/program/surroundings.sh build/ci/epmoe
. "$(dirname "$0")/../rig/ends.sh"
needs mpirun
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
model=$PWD/models/austen-moe
logits=("$epmoe" logits -m synth:tiny-moe --tokens 1,2,3 -o "$work/out.safetensors")

# told CODE "what stderr says" WHAT COMMAND… : one line, and this exit code
told() {
    local code=$1 says=$2 what=$3 found
    shift 3
    timeout 60 "$@" >"$work/stdout" 2>"$work/stderr"
    found=$?
    [ "$found" -eq "$code" ] && [ "$(wc -l <"$work/stderr")" -eq 1 ] && grep -qF -- "$says" "$work/stderr"
    result $? "$what: expected exit code $code and one line with: $says; found exit code $found and: $(cat "$work/stderr")"
}

# ---- stdout ----

run=(launch/mpirun.sh -n 2 "$epmoe" run -m "$model" -p Emma -n 40)
full_disk() { # WHAT COMMAND…
    local what=$1 found
    shift
    "$@" >/dev/full 2>"$work/stderr"
    found=$?
    [ $found -eq 1 ] && [ "$(cat "$work/stderr")" = 'epmoe: standard output: cannot be written: No space left on device' ]
    result $? "$what: expected exit code 1 and one line, found exit code $found and $(cat "$work/stderr")"
}
full_disk "a full disk" "${run[@]}"
# Open MPI's own mpirun has crashed when told to end at the moment when it was ending; so does this one, always.
mkdir "$work/crashes"
cat >"$work/crashes/mpirun" <<'END'
#!/bin/bash
trap 'echo "[$HOSTNAME:$$] Signal: Segmentation fault (11)" >&2; exit 139' TERM
while :; do echo text; sleep 0.1; done
END
chmod +x "$work/crashes/mpirun"
full_disk "mpirun that crashes as it ends" env PATH="$work/crashes:$PATH" "${run[@]}"
"${run[@]}" >&- 2>"$work/stderr"
[ $? -eq 1 ] && [ "$(cat "$work/stderr")" = 'epmoe: standard output: cannot be written: Bad file descriptor' ]
result $? "no stdout: expected exit code 1 and one line"
launch/mpirun.sh -n 2 "${logits[@]}" >&- 2>"$work/stderr"
[ $? -eq 0 ] && [ ! -s "$work/stderr" ]
result $? "no stdout, and nothing to be printed: expected exit code 0"
{
    launch/mpirun.sh -n 2 sh -c 'exec yes' 2>"$work/stderr"
    echo $? >"$work/code"
} | head -1 >"$work/stdout"
[ "$(cat "$work/code")" -eq 141 ] && [ ! -s "$work/stderr" ]
result $? "a reader that leaves: expected exit code 141 in silence, found $(cat "$work/code")"

# The reader begins when the job is done, so that all of stdout (less than a pipe holds) waits on its way.
launch/mpirun.sh -n 1 sh -c 'seq 10000; echo summary >>"$EPMOE_SUMMARY"; echo done >'"$work/done" 2>&1 | {
    while [ ! -e "$work/done" ]; do sleep 0.01; done
    sleep 0.5
    tail -1
} >"$work/stdout"
[ "$(cat "$work/stdout")" = summary ]
result $? "the summary: expected after all of stdout, found last: $(cat "$work/stdout")"
: >"$work/summary"
EPMOE_SUMMARY=$work/summary "$epmoe" run -m "$model" -p Emma -n 4 --wire int8 --ranks 2 -v --profile \
    >"$work/stdout" 2>"$work/stderr"
grep -q '^prompt 1 token' "$work/summary" && grep -q '^wire int8' "$work/summary" &&
    grep -q 'rows were away' "$work/summary" && grep -q '^layer' <(sed 's/^ *//' "$work/summary") &&
    ! grep -q '^prompt\|^wire\|rows were away' "$work/stderr"
result $? "all that follows the text goes where the runner wants the summary"
rm -f "$work/stderr"

# ---- mpirun's words ----

# Two of its messages, one of them about who was killed, may arrive line by line in turn.
mkdir "$work/path"
cat >"$work/path/mpirun" <<'SH'
#!/bin/sh
cat >&2 <<'TEXT'
--------------------------------------------------------------------------
An MPI communication peer process has unexpectedly disconnected.  This
--------------------------------------------------------------------------
mpirun noticed that process rank 4 with PID 0 on node b exited on signal 9 (Killed).
usually indicates a failure in the peer process (e.g., a crash or
--------------------------------------------------------------------------
--------------------------------------------------------------------------
TEXT
exit ${CODE:-137}
SH
chmod +x "$work/path/mpirun"
PATH=$work/path:$PATH told 4 'lost rank 4 on b: killed by signal 9 (Killed)' "messages in turn" \
    launch/mpirun.sh -n 5 run
# The script may kill it when it has printed the first dash of one.
cat >"$work/path/mpirun" <<'SH'
#!/bin/sh
echo 'epmoe: lost rank 4 on b: no sign of life' >&2
printf - >&2
exec sleep 60
SH
PATH=$work/path:$PATH told 4 'lost rank 4 on b: no sign of life' "a message that is cut" launch/mpirun.sh -n 5 run

# ---- launchers ----

for start in PMI_SIZE=3:PMI_RANK=0 OMPI_COMM_WORLD_SIZE=3:OMPI_COMM_WORLD_RANK=0 \
    SLURM_STEP_NUM_TASKS=3:SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=3:SLURM_PROCID=0:PMIX_RANK=0; do
    told 2 'expected the 3 processes that were started to be ranks of one run' "alone by $start" \
        env ${start//:/ } "${logits[@]}"
done
env PMI_SIZE=3 PMI_RANK=2 "${logits[@]}" 2>"$work/stderr"
[ $? -eq 2 ] && [ ! -s "$work/stderr" ]
result $? "the third of three that are alone: expected exit code 2 in silence"
env PMI_SIZE=1 PMI_RANK=0 "${logits[@]}" 2>"$work/stderr"
result $? "one process of one: expected to run"

if command -v srun >/dev/null; then
    echo "skipped: Slurm's variables without srun, as there is one"
else
    slurm=(SLURM_JOB_ID=7 SLURM_JOBID=7 SLURM_NNODES=1 SLURM_NODELIST=node17 SLURM_TASKS_PER_NODE=3)
    env "${slurm[@]}" SLURM_JOB_NODELIST=node17 launch/mpirun.sh -n 3 "${logits[@]}" 2>"$work/stderr"
    result $? "Slurm's variables without srun: expected to run on this host"
fi

unstarted() { # exit code, what stderr says, program
    told "$1" "$2" "$3" launch/mpirun.sh -n 2 "$3" run
    [ ! -s "$work/stdout" ]
    result $? "$3: expected nothing on stdout, found: $(cat "$work/stdout")"
}
unstarted 127 'no-program: expected a program, found none of this name' "$work/no-program"
unstarted 126 'README.md: expected a program, found a file that cannot be executed' ./README.md
unstarted 126 'launch: expected a program, found a file that cannot be executed' ./launch
if command -v ssh >/dev/null; then
    told 1 'Could not resolve hostname no-such-host' "a host that does not resolve" \
        launch/mpirun.sh -n 3 --host no-such-host.invalid:2,localhost:1 "${logits[@]}"
fi

# ---- places for files ----

# With a file system of so many bytes on a directory: small SIZE DIRECTORY COMMAND…
small=(unshare -m sh -c 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"' sh)
mkdir "$work/small"
if "${small[@]}" 1m "$work/small" true 2>/dev/null; then
    export TMPDIR=$work/small
    told 1 "MPI cannot start: expected 8 MB free in $work/small for Open MPI's files" "a full TMPDIR" \
        "${small[@]}" 1m "$work/small" launch/mpirun.sh -n 3 "${logits[@]}"
    unset TMPDIR
    nothing_left
    result $? "a full TMPDIR: nothing left"
    told 0 '/dev/shm: expected some 4 MB for each rank, found' "a full /dev/shm" \
        "${small[@]}" 16k /dev/shm launch/mpirun.sh -n 3 "${logits[@]}"
else
    echo "skipped: full file systems, which only root can mount"
fi

# ---- what a kill leaves ----

echo '{"prompt": "Emma", "max_tokens": 3}' >"$work/in"
mkfifo "$work/pipe"
killed() { # signal, who: script or mpirun
    local runner rank job number
    rm -f "$work/out"
    launch/mpirun.sh -n 3 "$epmoe" batch -m "$model" -i "$work/pipe" -o "$work/out" -q 2>"$work/stderr" &
    runner=$!
    exec 9>"$work/pipe"
    cat "$work/in" >&9
    while kill -0 "$runner" 2>/dev/null && [ ! -s "$work/out" ]; do sleep 0.01; done
    rank=$(ours 0)
    job=$(awk '{ print $4 }' "/proc/$rank/stat")
    number=$(tr '\0' '\n' <"/proc/$rank/environ" | sed -n 's/^PMIX_NAMESPACE=//p')
    number=$(printf %x "$number")
    ls /dev/shm/vader_segment.*."$number".* >/dev/null
    result $? "$1 to $2: expected Open MPI's shared memory while the ranks run"
    if [ "$2" = script ]; then kill -"$1" "$runner"; else kill -"$1" "$job"; fi
    wait "$runner" 2>/dev/null
    echo $? >"$work/code"
    exec 9>&-
    nothing_left
    result $? "$1 to $2: nothing left running"
    for ((tick = 0; tick < 1000; tick++)); do
        ls -d /dev/shm/vader_segment.*."$number".* "${TMPDIR:-/tmp}"/ompi.*/pid."$job" >"$work/left" 2>/dev/null
        [ -s "$work/left" ] || break # ls fails already when one of the two is gone
        sleep 0.01
    done
    [ ! -s "$work/left" ]
    result $? "$1 to $2: left $(tr '\n' ' ' <"$work/left")"
}
killed TERM script
[ "$(cat "$work/code")" -eq 143 ]
result $? "TERM to script: expected exit code 143, found $(cat "$work/code")"
killed KILL script
killed KILL mpirun
[ "$(cat "$work/code")" -eq 4 ] && [ "$(wc -l <"$work/stderr")" -eq 1 ] && grep -q 'lost mpirun' "$work/stderr"
result $? "KILL to mpirun: expected exit code 4 and one line, found $(cat "$work/code")"
finish
