#!/usr/bin/env bash
# Two hosts, made of network namespaces: each with its own network, host name and shared memory, and
# only a cable between them. A coordinator on one, workers on both: the same text as from one
# process. Then the cable is cut in mid-run, and a worker of the other host killed or stopped.
#   tests/program/multihost.sh build/ci/epmoe
. "$(dirname "$0")/../rig/ends.sh"
skip() { echo "skipped: $1" && exit 77; }
needs mpirun ip unshare
[ "$(id -u)" -eq 0 ] || skip "network namespaces need root"
a=epmoe-a-$$ b=epmoe-b-$$ net=10.$((RANDOM % 100 + 100)).$((RANDOM % 256))
cleanup() {
    ours | xargs -r kill -KILL
    ip netns del "$a" 2>/dev/null
    ip netns del "$b" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT

ip netns add "$a" 2>"$work/why" && ip netns add "$b" 2>"$work/why" &&
    ip link add name "v$$" netns "$a" type veth peer name "v$$" netns "$b" 2>"$work/why" ||
    skip "no network namespaces here: $(cat "$work/why")"
printf '127.0.0.1 localhost\n%s.1 %s\n%s.2 %s\n' "$net" "$a" "$net" "$b" >"$work/hosts"

# on HOST COMMAND…: what ssh would do
cat >"$work/on" <<AGENT
#!/usr/bin/env bash
host=\$1
shift
exec ip netns exec "\$host" unshare -u -m -i sh -c "hostname \$host && mount -t tmpfs tmpfs /dev/shm &&
    mount --bind $work/hosts /etc/hosts && exec \$*"
AGENT
chmod +x "$work/on"
"$work/on" "$a" true 2>"$work/why" || skip "no host names or mounts of one's own here: $(cat "$work/why")"
cable() { # up or down
    ip -n "$a" link set "v$$" "$1" && ip -n "$b" link set "v$$" "$1"
}
for host in "$a" "$b"; do
    ip -n "$host" link set lo up
done
ip -n "$a" addr add "$net.1/24" dev "v$$"
ip -n "$b" addr add "$net.2/24" dev "v$$"
cable up

timeout=6 # on a busy machine a rank that loads may be silent for three seconds
model=$PWD/models/austen-moe
run=("$work/on" "$a" timeout -k 5 100 "$PWD/launch/mpirun.sh" -n 5 --host "$a:2,$b:3"
    --mca plm_rsh_agent "$work/on" --mca plm_rsh_no_tree_spawn 1
    --mca btl_tcp_if_include "$net.0/24" --mca oob_tcp_if_include "$net.0/24")
export OMP_WAIT_POLICY=passive ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"

# As in one process, with -v telling where everyone is.
job=(run -m "$model" -p Emma -n 20 --temp 0 -q -t 1 --timeout "$timeout")
"$epmoe" "${job[@]}" >"$work/alone" 2>"$work/stderr"
"${run[@]}" -x EPMOE_TEST_RUN "$epmoe" "${job[@]}" -v >"$work/stdout" 2>"$work/stderr"
result $? "two hosts: exit code $?"
cmp -s "$work/alone" "$work/stdout"
result $? "two hosts: another text than one process"
[ "$(grep -c "rank [234] on $b:" "$work/stderr")" -eq 3 ] && grep -q "rank 1 on $a:" "$work/stderr"
result $? "two hosts: expected ranks 2, 3 and 4 on $b"

for i in $(seq 2000); do
    echo "{\"id\": \"r$i\", \"prompt\": \"Emma\", \"max_tokens\": $((5 + i % 23)), \"ignore_eos\": true}"
done >"$work/in"
start_batch() {
    rm -f "$work/out"
    "${run[@]}" -x EPMOE_TEST_RUN "$epmoe" batch -m "$model" -i "$work/in" -o "$work/out" --max-batch 4 -t 1 \
        -q --timeout "$timeout" >"$work/stdout" 2>"$work/stderr" </dev/null &
    job_pid=$!
    while kill -0 "$job_pid" 2>/dev/null; do # it has its own end: the number of requests
        [ -s "$work/out" ] && [ "$(wc -l <"$work/out")" -ge 10 ] && return
        sleep 0.01
    done
}
end_batch() { # start, name, line
    local code
    wait "$job_pid"
    code=$?
    # of a peer that goes while it sends, Open MPI's TCP has lines of its own
    sed -i '/\]\[.*btl_tcp_/d' "$work/stderr"
    ended "$2" "$code" 4 "$(since "$1")" $((timeout + 5)) "$3"
    whole_lines "$work/out" && [ -s "$work/out" ]
    result $? "$2: lines"
}

silence="no sign of life for $timeout.0 s,"
start_batch
start=$(now)
cable down
end_batch "$start" "cut cable" \
    "lost rank 2 on $b, rank 3 on $b, rank 4 on $b: $silence (.* of step [0-9]+ .*|.* between steps; )last finished step: [0-9]+"
cable up

start_batch
victim=$(ours 3)
start=$(now)
kill -STOP "$victim"
end_batch "$start" "a stopped worker of the other host" "lost rank 3 on $b: $silence"

start_batch
victim=$(ours 4)
start=$(now)
kill -KILL "$victim"
end_batch "$start" "a killed worker of the other host" "lost rank 4 on $b: killed by signal 9 \(Killed\), (in layer|between)"

# the other host's daemon has ended, too, or does soon
for ((wait = 0; wait < 600; wait++)); do
    daemons=$(ip netns pids "$b")
    [ -z "$daemons" ] && break
    sleep 0.1
done
[ -z "$daemons" ]
result $? "left on $b: $daemons"

finish
