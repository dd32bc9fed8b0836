#!/usr/bin/env bash
# A run of the laboratory, as the first process of a process namespace: when it ends, all others do,
# and with them the network and the mounts. launch/lab.sh starts it; LAB_… are that script's options.
#   launch/lab/inside.sh PROGRAM [arguments]
set -uo pipefail

network=10.77.0
patience=10 # seconds for the program to end after a signal

complain() {
    printf 'lab.sh: %s\n' "$1" >&2
    exit 1
}

hosts() { # their numbers
    seq 0 $((LAB_RANKS - 1))
}

# ---- hosts ----

# join RANK COMMAND…: in that rank's cgroup and, where the throttle gives out cores, on one of them.
make_cgroups() {
    local host pin=''
    if [ -n "$LAB_MEMORY" ]; then
        echo +memory >"$LAB_DIR/cgroup/cgroup.subtree_control" && echo +memory >"$LAB_CGROUP/cgroup.subtree_control"
    fi 2>/dev/null
    for host in $(hosts); do
        mkdir "$LAB_CGROUP/host$host" || complain "expected to be allowed a cgroup"
        [ -n "$LAB_MEMORY" ] || continue
        echo "$LAB_MEMORY" 2>/dev/null >"$LAB_CGROUP/host$host/memory.max" || complain \
            "--memory: expected the memory controller of cgroup version 2, found: $(cat "$LAB_DIR/cgroup/cgroup.controllers"); leave --memory out"
        echo 0 2>/dev/null >"$LAB_CGROUP/host$host/memory.swap.max"
    done
    [ -z "$LAB_CPU" ] || pin="taskset -c $(taskset -pc $$ | sed 's/.*[^0-9]\([0-9]*\)$/\1/')"
    cat >"$LAB_DIR/join" <<JOIN
#!/usr/bin/env bash
echo \$\$ >"$LAB_CGROUP/host\$1/cgroup.procs" || exit 1
shift
exec $pin "\$@"
JOIN
    chmod +x "$LAB_DIR/join"
}

# ---- the network ----

bits_per_second() {
    awk -v rate="$LAB_RATE" 'BEGIN { u["k"] = 1e3; u["m"] = 1e6; u["g"] = 1e9
        printf "%.0f", rate * u[substr(rate, length(rate) - 3, 1)] }'
}

# What may go out at once after a pause: a fifth of a millisecond's worth, and never less than two
# packets. With more, short messages would pass at the speed of memory; with less, the kernel's timers
# would come too late to keep a fast link busy.
burst_bytes() {
    awk -v bits="$(bits_per_second)" 'BEGIN { b = bits / 8 * 2e-4; printf "%.0f", b < 3200 ? 3200 : b }'
}

shape() { # namespace, device
    tc -n "$1" qdisc add dev "$2" root handle 1: tbf rate "$LAB_RATE" burst "$(burst_bytes)" latency 200ms
}

slow_down() { # namespace, device: packets that leave the host are held back
    local where=root
    [ -z "$LAB_RATE" ] || where='parent 1:1'
    # shellcheck disable=SC2086
    tc -n "$1" qdisc add dev "$2" $where netem delay "$LAB_DELAY" limit 100000
}

make_link() { # host
    ip netns add "host$1" && ip -n "host$1" link set lo up &&
        ip link add name eth0 netns "host$1" type veth peer name "port$1" netns switch &&
        ip -n "host$1" addr add "$network.$(($1 + 1))/24" dev eth0 && ip -n "host$1" link set eth0 up &&
        ip -n switch link set "port$1" master bridge up || return 1
    [ -z "$LAB_RATE" ] || { shape "host$1" eth0 && shape switch "port$1"; } ||
        complain "--rate: expected tc's tbf to take $LAB_RATE, found the above"
    [ -z "$LAB_DELAY" ] || slow_down "host$1" eth0 || complain \
        "--delay: expected a kernel with netem (CONFIG_NET_SCH_NETEM), found the above; leave --delay out"
}

# on HOST COMMAND: what ssh would do; COMMAND is text for a shell.
make_network() {
    local host
    mount -t tmpfs tmpfs /run/netns && ip netns add switch &&
        ip -n switch link add name bridge type bridge && ip -n switch link set bridge up ||
        complain "expected to be allowed network namespaces, bridges and links, found the above"
    echo '127.0.0.1 localhost' >"$LAB_DIR/hosts"
    for host in $(hosts); do
        make_link "$host" || complain "expected to be allowed a link for host$host, found the above"
        echo "$network.$((host + 1)) host$host" >>"$LAB_DIR/hosts"
    done
    cat >"$LAB_DIR/on" <<ON
#!/usr/bin/env bash
host=\$1
shift
exec ip netns exec "\$host" unshare -u -m -i bash -c "hostname \$host && mount -t tmpfs tmpfs /dev/shm &&
    mount --bind $LAB_DIR/hosts /etc/hosts && mkdir -p $LAB_DIR/\$host && export TMPDIR=$LAB_DIR/\$host && exec \$*"
ON
    # what mpirun starts
    cat >"$LAB_DIR/rank" <<RANK
#!/usr/bin/env bash
[ "\$(hostname)" = "host\$OMPI_COMM_WORLD_RANK" ] ||
    { echo "lab.sh: expected rank \$OMPI_COMM_WORLD_RANK on a host of its number, found \$(hostname)" >&2; exit 1; }
exec $LAB_DIR/join "\$OMPI_COMM_WORLD_RANK" "\$@"
RANK
    chmod +x "$LAB_DIR/on" "$LAB_DIR/rank"
}

# ---- the throttle ----

throttle=''
start_throttle() { # a file for its report
    local host groups=()
    [ -n "$LAB_CPU" ] || return 0
    for host in $(hosts); do
        groups+=("$LAB_CGROUP/host$host")
    done
    "$LAB_TOOLS/lab_throttle" "$LAB_CPU" "${groups[@]}" 2>"$1" </dev/null &
    throttle=$!
}

stop_throttle() {
    [ -n "$throttle" ] || return 0
    kill -TERM "$throttle" 2>/dev/null
    wait "$throttle"
    throttle=''
}

# ---- the roof ----

read_at_once() { # hosts: their bandwidths, a line each
    local host when
    when=$(awk '{ print $1 + 1.5 }' /proc/uptime)
    for host in "$@"; do
        "$LAB_DIR/join" "$host" "$LAB_TOOLS/lab_read" "$when" 2 &
    done
    wait $(jobs -p | grep -vx "$throttle")
}

measure_roof() {
    start_throttle "$LAB_DIR/roof-report"
    read_at_once 0 >"$LAB_DIR/alone"
    [ "$LAB_RANKS" -eq 1 ] || read_at_once $(hosts) >"$LAB_DIR/together"
    stop_throttle
    echo "lab: read bandwidth of one rank alone: $(cat "$LAB_DIR/alone") GB/s" >&2
    [ "$LAB_RANKS" -eq 1 ] || sort -n "$LAB_DIR/together" | awk -v ranks="$LAB_RANKS" '
        { sum += $1; least = NR == 1 ? $1 : least; most = $1 }
        END { printf "lab: read bandwidth of each of %d at once: %.2f GB/s (%.2f to %.2f)\n",
            ranks, sum / NR, least, most }' >&2
}

# ---- the run ----

run() { # the program; in the background, with the signals of the foreground
    local quoted host list=''
    if [ "$LAB_RANKS" -eq 1 ]; then
        env --default-signal=INT "$LAB_DIR/join" 0 "$@" <&0 &
    else
        for host in $(hosts); do
            list+=host$host:1,
        done
        quoted=$(printf '%q ' "$LAB_ROOT/launch/mpirun.sh" -n "$LAB_RANKS" --host "${list%,}" \
            --mca plm_rsh_agent "$LAB_DIR/on" --mca plm_rsh_no_tree_spawn 1 --mca btl self,tcp \
            --mca btl_tcp_if_include "$network.0/24" --mca oob_tcp_if_include "$network.0/24" "$LAB_DIR/rank" "$@")
        env --default-signal=INT "$LAB_DIR/on" host0 "$quoted" <&0 &
    fi
    job=$!
}

job='' signal=''
on_signal() {
    signal=$1
    [ -z "$job" ] || kill -"$1" "$job" 2>/dev/null
    # whoever has not ended then ends with this process
    { sleep "$patience" && kill -USR1 1; } &
}
trap 'complain "expected the program to end within $patience s of SIG$signal, found it running: killed"' USR1
trap 'on_signal INT' INT
trap 'on_signal TERM' TERM
trap 'on_signal HUP' HUP

await_job() { # sets code
    local who=''
    while :; do
        wait -n -p who "$job" ${throttle:+"$throttle"}
        code=$?
        [ "${who:-}" != "$job" ] || return
        [ -z "$throttle" ] || [ "${who:-}" != "$throttle" ] || throttle_ended
    done
}

throttle_ended() {
    cat "$LAB_DIR/report" >&2
    complain "expected the throttle to run as long as the ranks, found its exit code $code"
}

make_cgroups
[ "$LAB_RANKS" -eq 1 ] || make_network
[ -z "$LAB_ROOF" ] || measure_roof
start_throttle "$LAB_DIR/report"
[ -n "$signal" ] && exit 130
run "$@"
await_job
stop_throttle
[ -z "$LAB_CPU" ] || cat "$LAB_DIR/report" >&2
exit "$code"
