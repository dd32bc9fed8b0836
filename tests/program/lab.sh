#!/usr/bin/env bash
# The laboratory: what it refuses, that it changes no result, that its throttle gives each rank its
# share whatever the length of a phase, that its links are no faster than asked for, and that nothing
# of it is left, however it ends.
#   tests/program/lab.sh build/ci/epmoe build/ci/tests/lab_phases
phases=$(realpath "$2")
. "$(dirname "$0")/../rig/ends.sh"
lab=launch/lab.sh
model=$PWD/models/austen-moe
export OMP_WAIT_POLICY=passive ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"

# ---- usage ----

refused() { # text, arguments…
    local text=$1
    shift
    "$lab" "$@" >"$work/stdout" 2>"$work/stderr" </dev/null
    [ $? -eq 2 ] && [ "$(wc -l <"$work/stderr")" -eq 1 ] && [ ! -s "$work/stdout" ] && grep -qF -- "$text" "$work/stderr"
    result $? "lab.sh $*: expected exit code 2 and one line with: $text"
}
most=$(awk -v cores="$(nproc)" 'BEGIN { print 0.9 * cores / 64 }')
refused 'expected an option or -- and a program, found "epmoe"' epmoe
refused 'expected -- and a program, found no program' -n 5
refused 'expected -- and a program, found no program' -n 5 --
refused '-n: expected ranks from 1 to 64, found "0"' -n 0 -- true
refused '-n: expected ranks from 1 to 64, found "65"' -n 65 -- true
refused '--cpu: expected a share of a core from 0.05 to 0.9, found "1.5"' --cpu 1.5 -- true
refused '--cpu: expected a share of a core from 0.05 to 0.9, found "0.01"' --cpu 0.01 -- true
refused '--rate: expected a rate such as 1gbit, found "fast"' -n 2 --rate fast -- true
refused '--delay: expected a time such as 50us, found "50"' -n 2 --delay 50 -- true
refused '--memory: expected a size such as 8G, found "8"' --memory 8 -- true
refused '--cpu: expected a value, found none' --cpu -- true
refused '--rate, --delay: expected -n 2 or more, found one rank' --rate 1gbit -- true
refused 'expected a program after --, found "no-such-program"' -- no-such-program
[ "$(nproc)" -gt 64 ] || refused "--cpu: expected at most $most (64 ranks within 0.9 of $(nproc) cores), found 0.9" \
    -n 64 --cpu 0.9 -- true
"$lab" --help >"$work/stdout" 2>"$work/stderr" && grep -q -- '--no-roof' "$work/stdout"
result $? "--help"

[ "$(id -u)" -eq 0 ] || { finish && echo "skipped the rest: the laboratory needs root" && exit 77; }
for tool in ip tc mpirun python3; do
    command -v "$tool" >/dev/null || { finish && echo "skipped the rest: no $tool" && exit 77; }
done
"$lab" --cpu 0.2 --no-roof -- true 2>"$work/stderr" && "$lab" -n 2 --no-roof -- true 2>>"$work/stderr" ||
    { finish && echo "skipped the rest: no laboratory here: $(cat "$work/stderr")" && exit 77; }
if command -v setpriv >/dev/null; then
    setpriv --reuid 65534 --clear-groups "$PWD/$lab" -- true >"$work/stdout" 2>"$work/stderr"
    [ $? -eq 1 ] && grep -q '^lab.sh: expected root' "$work/stderr"
    result $? "as another user: expected exit code 1 and a line that asks for root"
fi

# What runs of the lab have left behind: directories; cgroups, as a run sees them; processes.
leftovers() {
    ls -d /run/epmoe-lab.* 2>/dev/null
    unshare -m sh -c "mount -t tmpfs tmpfs $work && mkdir $work/c && mount -t cgroup2 none $work/c &&
        ls -d $work/c/epmoe-lab.*" 2>/dev/null
    ours
}
clean() { # what
    local left wait
    for ((wait = 0; wait < 100; wait++)); do
        left=$(leftovers)
        [ -z "$left" ] && break
        sleep 0.1
    done
    [ -z "$left" ]
    result $? "$1: left behind: $(echo "$left" | tr '\n' ' ')"
}
clean "short runs"

# ---- results ----

# as alone, on three hosts that are stopped and continued; no deadline of the transport's is missed, which
# is long, as others may hold the cores
job=(run -m "$model" -p "Emma was" -n 16 --temp 0 -q -t 1 --timeout 30)
"$epmoe" "${job[@]}" >"$work/alone" 2>"$work/stderr"
share=$(awk -v cores="$(nproc)" 'BEGIN { s = 0.3 * cores; print (s < 0.34 ? s : 0.34) }')
"$lab" -n 3 --cpu "$share" --rate 1gbit --no-roof -- "$epmoe" "${job[@]}" -v >"$work/stdout" 2>"$work/stderr"
result $? "three hosts: exit code $?"
cmp -s "$work/alone" "$work/stdout"
result $? "three hosts: expected the text of one process"
[ "$(grep -cE 'rank ([12]) on host\1:' "$work/stderr")" -eq 2 ]
result $? "three hosts: expected rank 1 on host1 and rank 2 on host2"
[ "$(grep -cE '^lab: +[012] ' "$work/stderr")" -eq 3 ]
result $? "three hosts: expected a line of the throttle's report for each"
"$lab" -n 2 --cpu "$share" -- "$epmoe" "${job[@]}" >"$work/stdout" 2>"$work/stderr"
number='[0-9]+\.[0-9]+'
cmp -s "$work/alone" "$work/stdout" && grep -qE "read bandwidth of one rank alone: $number GB/s" "$work/stderr" &&
    grep -qE "read bandwidth of each of 2 at once: $number GB/s \($number to $number\)" "$work/stderr"
result $? "expected the read bandwidth of one rank and of all"
"$lab" -n 2 --no-roof -- "$epmoe" run -m "$work/none" -p x >"$work/stdout" 2>"$work/stderr"
[ $? -eq 3 ] && [ "$(wc -l <"$work/stderr")" -eq 1 ]
result $? "a model that is not there: expected exit code 3 and one line"
clean "runs"

# ---- shares ----

for share in 0.34 0.2; do
    "$lab" --cpu "$share" --no-roof -- "$phases" "$share" >"$work/phases" 2>"$work/stderr"
    code=$?
    cat "$work/phases"
    if grep 'expected real-time priority' "$work/stderr"; then
        echo "phases: not judged"
    else
        result $code "phases"
    fi
done

# ---- links ----

# Megabytes there and back, then short messages, each after a pause: less than the link lets through
# in the time means that it has let bursts pass. 0.9: what had been saved up when the clock started.
cat >"$work/send.py" <<'PY'
import os, socket, sys, time
rank, rate, size, short = int(os.environ["OMPI_COMM_WORLD_RANK"]), 100e6, 3_000_000, 60_000
def take(s, n):
    while n:
        got = len(s.recv(min(n, 1 << 20)))
        assert got, "closed early"
        n -= got
def connect():
    for i in range(400):
        try: return socket.create_connection(("host0", 5000))
        except OSError: time.sleep(0.05)
    sys.exit("no connection")
if rank == 1:
    s = connect()
    take(s, 1); s.sendall(bytes(size)); take(s, size); s.sendall(b"y")
    for i in range(20): take(s, short); s.sendall(b"z")
    sys.exit(0)
listener = socket.create_server(("0.0.0.0", 5000))
s, _ = listener.accept()
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
failed = 0
def check(what, n, begin):
    global failed
    lasted, least = time.monotonic() - begin, 0.9 * 8 * n / rate
    print(f"{what}: {n} bytes in {lasted:.4f} s, expected at least {least:.4f}")
    failed |= lasted < least
begin = time.monotonic(); s.sendall(b"g"); take(s, size); check("to host0", size, begin)
begin = time.monotonic(); s.sendall(bytes(size)); take(s, 1); check("to host1", size, begin)
for i in range(20):
    time.sleep(0.02)
    begin = time.monotonic(); s.sendall(bytes(short)); take(s, 1); check("short", short, begin)
sys.exit(failed)
PY
"$lab" -n 2 --rate 100mbit --no-roof -- python3 "$work/send.py" >"$work/sent" 2>"$work/stderr"
result $? "--rate 100mbit: $(cat "$work/sent")"
sed -n 1,3p "$work/sent"
"$lab" -n 2 --delay 1ms --no-roof -- "$epmoe" "${job[@]}" >"$work/stdout" 2>"$work/stderr"
code=$?
if [ $code -eq 0 ]; then
    cmp -s "$work/alone" "$work/stdout"
else
    [ $code -eq 1 ] && grep -q '^lab.sh: --delay: expected a kernel with netem' "$work/stderr"
fi
result $? "--delay: expected the text of one process, or to be told that the kernel has no netem"
"$lab" -n 1 --memory 2G --no-roof -- "$epmoe" "${job[@]}" >"$work/stdout" 2>"$work/stderr"
code=$?
if [ $code -eq 0 ]; then
    cmp -s "$work/alone" "$work/stdout"
    result $? "--memory 2G: expected the text of one process"
    "$lab" --memory 1M --no-roof -- "$epmoe" "${job[@]}" >"$work/stdout" 2>"$work/stderr"
    [ $? -ne 0 ]
else
    [ $code -eq 1 ] && grep -q '^lab.sh: --memory: expected the memory controller' "$work/stderr"
fi
result $? "--memory: expected 1M not to do, or to be told that there is no memory controller"

# ---- ends ----

for i in $(seq 3000); do
    echo "{\"id\": \"r$i\", \"prompt\": \"Emma\", \"max_tokens\": $((5 + i % 23)), \"ignore_eos\": true}"
done >"$work/in"
start_batch() { # ranks
    rm -f "$work/out"
    # a shell's background would have it ignore SIGINT
    env --default-signal=INT "$lab" -n "$1" --cpu 0.3 --no-roof -- "$epmoe" batch -m "$model" -i "$work/in" -o "$work/out" --max-batch 4 \
        -t 1 -q --timeout 5 >"$work/stdout" 2>"$work/stderr" </dev/null &
    run=$!
    for ((wait = 0; wait < 3000; wait++)); do
        [ -s "$work/out" ] && return
        sleep 0.01
    done
    echo "the batch wrote nothing in 30 s"
}
end_batch() { # what, exit code, line
    local code
    wait "$run"
    code=$?
    [ $code -eq "$2" ] && grep -qE -- "$3" "$work/stderr"
    result $? "$1: expected exit code $2 and $3, found $code"
    clean "$1"
}

for ranks in 1 2; do
    for signal in INT TERM; do
        start_batch "$ranks"
        kill -"$signal" "$run"
        [ $signal = INT ] && end_batch "SIGINT, $ranks ranks" 130 '^epmoe: interrupted' ||
            end_batch "SIGTERM, $ranks ranks" 143 '^epmoe: terminated'
    done
done
start_batch 2
kill -KILL "$(ours 1)"
end_batch "a killed rank" 4 'lost rank 1 on host1: killed by signal 9'

# Killed itself, it takes its processes along; the next run removes cgroups and a directory.
start_batch 2
kill -KILL "$run"
wait "$run" 2>/dev/null
for ((wait = 0; wait < 100; wait++)); do
    [ -z "$(ours)" ] && break
    sleep 0.1
done
[ -z "$(ours)" ]
result $? "SIGKILL: expected no processes, found $(ours | tr '\n' ' ')"
"$lab" --no-roof -- true 2>"$work/stderr" && [ "$(grep -c "removing .*epmoe-lab.$run of a run that was killed" "$work/stderr")" -eq 2 ]
result $? "after SIGKILL: expected the next run to remove what the killed one left"
clean "after SIGKILL"

# A throttle that ends ends the run.
start_batch 2
kill_throttle() {
    local p
    for p in /proc/[0-9]*; do
        [ "$(cat "$p/comm" 2>/dev/null)" = lab_throttle ] && has_entry "${p#/proc/}" "EPMOE_TEST_RUN=$EPMOE_TEST_RUN" &&
            kill -KILL "${p#/proc/}"
    done
}
kill_throttle
end_batch "a killed throttle" 1 'expected the throttle to run as long as the ranks'

finish
