#!/usr/bin/env bash
# Starts epmoe by Open MPI's mpirun, with settings that avoid known problems, and prints one clear
# line when a rank is lost. See docs/launch.md.
#   launch/mpirun.sh -n 5 build/release/epmoe run …          this host: one coordinator, four workers
#   launch/mpirun.sh --per-numa build/release/epmoe run …    this host: a worker bound to each NUMA node
#   launch/mpirun.sh -n 9 --hostfile launch/hosts.example epmoe run …
# All other options are mpirun's. Exit codes are epmoe's: 4 for a lost rank, however it was lost; 130
# after Ctrl-C.
set -uo pipefail

# Let mpirun run as root and start more ranks than cores, and do not bind a rank to one core.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-none}
# Open MPI does not start without a remote shell, even if it needs none on this host.
command -v ssh >/dev/null || command -v rsh >/dev/null ||
    export OMPI_MCA_plm_rsh_agent=${OMPI_MCA_plm_rsh_agent:-sh}
# Notice after half a minute that a host was cut off; by TCP's default it would take two hours.
export OMPI_MCA_oob_tcp_keepalive_time=${OMPI_MCA_oob_tcp_keepalive_time:-10}
export OMPI_MCA_oob_tcp_keepalive_intvl=${OMPI_MCA_oob_tcp_keepalive_intvl:-5}
export OMPI_MCA_oob_tcp_keepalive_probes=${OMPI_MCA_oob_tcp_keepalive_probes:-4}

patience=4 # how many seconds mpirun may take to end once the run is over

# With --per-numa, ranks are placed on the NUMA nodes in turn. With n + 1 ranks on n nodes, every node
# has one worker, whose threads first write the memory that they later read; rank 0 shares its node
# with the last worker. These two share cores, so their threads must not spin while they wait.
numa_nodes() {
    local nodes=(/sys/devices/system/node/node[0-9]*)
    [ -e "${nodes[0]}" ] && echo "${#nodes[@]}" || echo 1
}

arguments=()
if [ "${1:-}" = --per-numa ]; then
    shift
    export OMP_WAIT_POLICY=passive
    arguments+=(--map-by numa --bind-to numa:overload-allowed -x OMP_WAIT_POLICY)
    case " $* " in
    *' -n '* | *' -np '*) ;;
    *) arguments+=(-n "$(($(numa_nodes) + 1))") ;;
    esac
fi
arguments+=("$@")

# ---- what mpirun and the ranks say on stderr ----

lost='' died='' exited='' daemon='' where='' ended='' signalled='' partial='' block='' in_block=''
symptoms='' # Open MPI's messages about a lost peer; printed only if nothing better is known
limit=0

be_over() { # from now on mpirun has $patience seconds to end
    [ "$limit" -ne 0 ] || limit=$((SECONDS + patience))
}

# Take a message of mpirun, which stands between two lines of dashes.
take_block() {
    local noticed='process rank ([0-9]+) with PID [0-9]+ on node ([^ ]+) exited on (signal [0-9]+ \([^)]*\))'
    local code='Process name: \[\[[0-9]+,[0-9]+\],([0-9]+)\][[:space:]]+Exit code: +([0-9]+)'
    local cut='Remote daemon: +[^ ]+ on node ([^ ]+)'
    if [[ $block =~ $noticed ]]; then
        died="rank ${BASH_REMATCH[1]} on ${BASH_REMATCH[2]}: killed by ${BASH_REMATCH[3]}"
        be_over
    elif [[ $block == *'exited with non-zero status'* && $block =~ $code ]]; then
        exited=${BASH_REMATCH[1]}
        code=${BASH_REMATCH[2]}
        [ "$code" -gt 128 ] && [ "$exited" -gt 0 ] && died="rank $exited: ended by signal $((code - 128))"
    elif [[ $block == *'lost communication with a remote daemon'* && $block =~ $cut ]]; then
        daemon=${BASH_REMATCH[1]}
        be_over
    elif [[ $block == *'failed to TCP connect to a peer'* || $block == *'has unexpectedly disconnected'* ]]; then
        symptoms+=$block
    elif [[ $block != *'Primary job  terminated normally'* && $block != *'mpirun has exited due to'* ]]; then
        printf '%s' "$block" >&4
    fi
    block='' in_block=''
}

take_line() {
    case $1 in
    'epmoe: lost '*)
        [ -n "$lost" ] || printf '%s\n' "$1" >&4
        lost=1
        be_over
        ;;
    'epmoe: terminated'* | 'epmoe: interrupted'*) # rank 0 says where the run was
        ended=$1
        where=${1#epmoe: *ed}
        ;;
    ------------------------------*)
        if [ -n "$in_block" ]; then take_block; else in_block=1; fi
        ;;
    'mpirun: abort is already in progress'* | 'mpirun: killing job'*) ;;
    '['*'] plm:rsh: Warning: setpgid('*) ;; # the agent had begun already, in a group of its own
    '[warn] Epoll '* | '['*'] ORTE_ERROR_LOG: '* | '['*'] plm:rsh: Warning: '* | '['*' sent help message '* | '['*'"orte_base_help_aggregate" to 0'*) symptoms+=$1$'\n' ;;
    '['*'] Read -1, expected '*', errno = 3') ;; # reading the memory of a rank that has ended
    *)
        if [ -n "$in_block" ] && [[ $1 != epmoe:* ]]; then
            block+=$1$'\n'
        else
            printf '%s\n' "$1" >&4
        fi
        ;;
    esac
}

# ---- the run ----

on_signal() { # mpirun gets Ctrl-C from the terminal, too, but not a kill of this script
    signalled=$1
    be_over
    sleep 0.3
    kill -TERM "$job" 2>/dev/null
}

folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
export EPMOE_LAST_WORDS=$folder/words # rank 0 writes here where the run is, if it is on this host
mkfifo "$folder/stderr" || exit 1
exec 4>&2
mpirun "${arguments[@]}" <&0 2>"$folder/stderr" 4>&- &
job=$!
exec 2>/dev/null # hides what the shell prints about children that were killed
exec 3<"$folder/stderr"
trap 'on_signal 2' INT
trap 'on_signal 15' TERM
trap 'on_signal 1' HUP

while :; do
    if IFS= read -r -t 0.2 -u 3 line; then
        take_line "$partial$line"
        partial=''
    else
        [ $? -gt 128 ] || break # not a timeout: all writers have closed the pipe
        partial+=$line
        kill -0 "$job" 2>/dev/null || be_over # mpirun has ended, but a process holds the pipe open
    fi
    if [ "$limit" -ne 0 ] && [ "$SECONDS" -ge "$limit" ]; then
        # ranks end themselves when mpirun is gone, except those that are stopped
        kill -KILL $(cat "/proc/$job/task/"*/children 2>/dev/null) "$job" 2>/dev/null
        break
    fi
done
[ -z "$partial" ] || take_line "$partial"
[ -z "$in_block" ] || take_block
wait "$job" 2>/dev/null
code=$?
while [ "$code" -gt 128 ] && kill -0 "$job" 2>/dev/null; do # a signal to this script ended the wait
    wait "$job" 2>/dev/null
    code=$?
done

if read -r word place <"$folder/words" 2>/dev/null; then
    where=${place:+ $place}
    [ "$word" = at ] || ended="epmoe: $word$where"
fi

if [ -n "$signalled" ]; then
    word=terminated
    [ "$signalled" -ne 2 ] || word=interrupted
    echo "epmoe: $word$where" >&4
    exit $((128 + signalled))
fi
[ -z "$lost" ] || exit 4
if [ -n "$died" ]; then
    echo "epmoe: lost $died${where:+,$where}" >&4
    exit 4
fi
if [ -n "$daemon" ]; then
    echo "epmoe: lost host $daemon: no connection${where:+,$where}" >&4
    exit 4
fi
printf '%s' "$symptoms${ended:+$ended$'\n'}" >&4
exit "$code"
