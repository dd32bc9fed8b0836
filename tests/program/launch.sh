#!/usr/bin/env bash
# The runner: options, exit codes and messages come through; --per-numa binds a worker to each NUMA
# node, and its experts lie in that node's memory.   tests/program/launch.sh build/ci/epmoe
. "$(dirname "$0")/../rig/ends.sh"
needs mpirun
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
model=$PWD/models/austen-moe

launch/mpirun.sh -n 3 sh -c 'echo out; echo err >&2; exit 0' >"$work/stdout" 2>"$work/stderr"
[ $? -eq 0 ] && [ "$(grep -c out "$work/stdout")" -eq 3 ] && [ "$(grep -c err "$work/stderr")" -eq 3 ]
result $? "two streams of three ranks"
echo "to rank 0" | launch/mpirun.sh -n 2 sh -c '[ "$OMPI_COMM_WORLD_RANK" = 1 ] || cat' >"$work/stdout" 2>"$work/stderr"
grep -qx "to rank 0" "$work/stdout"
result $? "stdin goes to rank 0"
launch/mpirun.sh -n 2 "$epmoe" run -m "$work/no-model" -p x >"$work/stdout" 2>"$work/stderr"
[ $? -eq 3 ] && [ "$(wc -l <"$work/stderr")" -eq 1 ]
result $? "exit code 3 and one line"
launch/mpirun.sh -n 2 "$work/no-program" >"$work/stdout" 2>"$work/stderr"
[ $? -ne 0 ] && grep -q 'no-program' "$work/stderr"
result $? "what mpirun alone knows is passed on"

# ---- NUMA ----

nodes=(/sys/devices/system/node/node[0-9]*)
[ -e "${nodes[0]}" ] || { echo "$passed passed, $failed failed; NUMA skipped: no /sys/devices/system/node" && exit "$failed"; }

# "0-3,8" as 0 1 2 3 8
spell() {
    local part
    for part in ${1//,/ }; do
        seq "${part%-*}" "${part#*-}"
    done | sort -n | tr '\n' ' '
}

# The node, by number, whose cores a process may run on.
node_of() {
    local allowed node
    allowed=$(spell "$(awk '/Cpus_allowed_list/ { print $2 }' "/proc/$1/status")")
    for node in "${nodes[@]}"; do
        [ "$(spell "$(cat "$node/cpulist")")" = "$allowed" ] && echo "${node##*node}"
    done
}

# Megabytes of anonymous memory of a process, on one node and on all.
memory_on() { # pid, node
    awk -v node="N$2=" '/anon=/ { for (i = 1; i <= NF; i++) if ($i ~ /^N[0-9]+=/) { split($i, a, "=")
        all += a[2]; if (index($i, node) == 1) here += a[2] } }
        END { print int(here / 256), int(all / 256) }' "/proc/$1/numa_maps"
}

mkfifo "$work/pipe"
launch/mpirun.sh --per-numa --report-bindings "$epmoe" batch -m "$model" -i "$work/pipe" -o "$work/out" -q \
    2>"$work/stderr" &
job=$!
exec 9>"$work/pipe"
echo '{"id": "a", "prompt": "Emma", "max_tokens": 5}' >&9
for ((wait = 0; wait < 2000; wait++)); do
    [ -s "$work/out" ] && break
    sleep 0.01
done
[ "$(ours | wc -l)" -eq $((${#nodes[@]} + 1)) ]
result $? "--per-numa: expected a coordinator and ${#nodes[@]} workers, found $(ours | wc -l) ranks"
seen=''
for ((rank = 1; rank <= ${#nodes[@]}; rank++)); do
    pid=$(ours "$rank") node=$(node_of "$(ours "$rank")")
    [ -n "$node" ]
    result $? "rank $rank: expected the cores of one node"
    seen+="$node "
    if [ -r "/proc/$pid/numa_maps" ]; then
        read -r here all < <(memory_on "$pid" "$node")
        [ "$all" -gt 3 ] && [ $((here * 10)) -ge $((all * 9)) ]
        result $? "rank $rank: $here of $all MB on node $node"
    fi
done
[ "$(tr ' ' '\n' <<<"$seen" | grep . | sort -u | wc -l)" -eq ${#nodes[@]} ]
result $? "--per-numa: expected a worker on each of ${#nodes[@]} nodes, found them on $seen"
exec 9>&-
wait "$job"
result $? "--per-numa: exit code $?"
[ "$(grep -c 'MCW rank' "$work/stderr")" -eq $((${#nodes[@]} + 1)) ]
result $? "--report-bindings passes through"

finish
