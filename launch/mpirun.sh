#!/usr/bin/env bash
# Starts epmoe by Open MPI's mpirun, with settings that avoid known problems, and prints one clear
# line when a rank is lost. See docs/launch.md.
#   launch/mpirun.sh -n 5 build/release/epmoe run …          this host: one coordinator, four workers
#   launch/mpirun.sh --per-numa build/release/epmoe run …    this host: a worker bound to each NUMA node
#   launch/mpirun.sh -n 9 --hostfile launch/hosts.example epmoe run …
# All other options are mpirun's. Exit codes are epmoe's: 4 for a lost rank, however it was lost; 130
# after Ctrl-C; and 127 or 126 for a program that is not there or cannot be executed.
set -uo pipefail

# Let mpirun run as root and start more ranks than cores, and do not bind a rank to one core.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-none}
# Open MPI does not start without a remote shell, even if it needs none on this host.
command -v ssh >/dev/null || command -v rsh >/dev/null ||
    export OMPI_MCA_plm_rsh_agent=${OMPI_MCA_plm_rsh_agent:-sh}
# In a container that a Slurm job has started, mpirun sees the job and wants srun, which is not there.
if [ -n "${SLURM_JOBID:-}${SLURM_JOB_ID:-}" ] && ! command -v srun >/dev/null; then
    export OMPI_MCA_plm=${OMPI_MCA_plm:-^slurm} OMPI_MCA_ras=${OMPI_MCA_ras:-^slurm}
fi
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
absent='' unexecuted='' unreached='' reason='' unstarted='' unwritten='' small_memory=''
told='' # mpirun's process number once this script has sent it a signal
symptoms='' # Open MPI's messages about a lost peer; printed only if nothing better is known
limit=0

be_over() { # from now on mpirun has $patience seconds to end
    [ "$limit" -ne 0 ] || limit=$((SECONDS + patience))
}

free_kb() { # directory
    df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print $4 }'
}

tell_small_memory() { # bytes that are free in /dev/shm
    [ -n "$small_memory" ] ||
        echo "epmoe: /dev/shm: expected some 4 MB for each rank, found $1 bytes: rows take a slower way" >&4
    small_memory=1
}

# mpirun could not read a message of a rank and has dropped it. Open MPI 4.1 does so with one in ten of
# those that say that /dev/shm is full, so check that.
take_lost_message() {
    local free
    free=$(free_kb /dev/shm)
    [ "${free:-4096}" -ge 4096 ] || tell_small_memory $((free * 1024))
}

# Take a message of mpirun about how a run ended, which stands between two lines of dashes. False if it
# is about something else.
take_end() {
    local code='Process name: \[\[[0-9]+,[0-9]+\],([0-9]+)\][[:space:]]+Exit code: +([0-9]+)'
    local cut='Remote daemon: +[^ ]+ on node ([^ ]+)'
    if [[ $block == *'exited with non-zero status'* && $block =~ $code ]]; then
        exited=${BASH_REMATCH[1]}
        code=${BASH_REMATCH[2]}
        [ "$code" -le 128 ] || [ "$exited" -eq 0 ] || died="rank $exited: ended by signal $((code - 128))"
    elif [[ $block == *'lost communication with a remote daemon'* && $block =~ $cut ]]; then
        daemon=${BASH_REMATCH[1]}
        be_over
    elif [[ $block == *'failed to TCP connect to a peer'* || $block == *'has unexpectedly disconnected'* ]]; then
        symptoms+=$block
    else
        [[ $block == *'Primary job  terminated normally'* || $block == *'mpirun has exited due to'* ]]
    fi
}

# Take a message about how a run began. False if it is about something else.
take_start() {
    local program='(Executable|Application name): +([^'$'\n'']+)' space='Space Available: ([0-9]+) B'
    if [[ $block == *'unable to find the specified executable'* && $block =~ $program ]]; then
        absent=${BASH_REMATCH[2]}
    elif [[ $block == *'or execute an executable'* || $block == *'via the "execve" system call'* ]] &&
        [[ $block =~ $program ]]; then
        unexecuted=${BASH_REMATCH[2]}
    elif [[ $block == *'unable to start the specified application'* ]]; then
        unexecuted=${unexecuted:-the program}
    elif [[ $block == *'unable to reliably start one or more daemons'* ]]; then
        unreached=1
    elif [[ $block == *'not enough space for /dev/shm/'* && $block =~ $space ]]; then
        tell_small_memory "${BASH_REMATCH[1]}"
    else
        return 1
    fi
}

take_block() {
    take_end || take_start || printf '%s' "$block" >&4
    block='' in_block=''
}

# The line that says which rank was killed. It is looked for in each line by itself, as the lines of two
# messages may arrive in turn.
noticed='process rank ([0-9]+) with PID [0-9]+ on node ([^ ]+) exited on (signal [0-9]+ \([^)]*\))'

# The message of Open MPI about a lost peer, to recognise each of its lines if other lines come between.
gone="usually indicates a failure in the peer process (e.g., a crash or
otherwise exiting without calling MPI_FINALIZE first).
Although this local MPI process will likely now behave unpredictably
(it may even hang or crash), the root cause of this problem is the
failure of the peer -- that is what you need to investigate.  For
example, there may be a core file that you can examine.  More
generally: such peer hangups are frequently caused by application bugs
or other external events."

take_line() {
    if [[ $1 =~ $noticed ]]; then
        died="rank ${BASH_REMATCH[1]} on ${BASH_REMATCH[2]}: killed by ${BASH_REMATCH[3]}"
        be_over
        return
    fi
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
    'mpirun: Forwarding signal '* | 'mpirun: abort is already in progress'* | 'mpirun: killing job'*) ;;
    *'mpirun: SIGPIPE detected on fd '*) ;;
    '  Local host: '* | '  Local PID: '* | '  Peer host: '*) [ -z "$in_block" ] || block+=$1$'\n' ;;
    'ssh: '* | *'orted: command not found'* | *'orted: No such file'*)
        reason=${reason:-$1}
        symptoms+=$1$'\n'
        ;;
    *'*** An error occurred in MPI_Init'* | *'Local abort before MPI_INIT'*) # mpirun may wait for ever
        unstarted=1
        symptoms+=$1$'\n'
        be_over
        ;;
    '['*'] PMIX ERROR: '* | '['*'] OPAL ERROR: '* | *'*** on a NULL communicator'* | *'*** MPI_ERRORS_ARE_FATAL'* | \
        *'***    and potentially your MPI job'*)
        symptoms+=$1$'\n'
        ;;
    '['*'] plm:rsh: Warning: setpgid('*) ;; # the remote shell had started already, in a process group of its own
    '['*'] ORTE_ERROR_LOG: '*/show_help.c*)
        symptoms+=$1$'\n'
        take_lost_message
        ;;
    '[warn] Epoll '* | '['*'] ORTE_ERROR_LOG: '* | '['*'] plm:rsh: Warning: '*) symptoms+=$1$'\n' ;;
    "[${HOSTNAME%%.*}"*":${told:-none}] "*) symptoms+=$1$'\n' ;; # mpirun died of our signal, which came as it ended
    '['*' sent help message '* | '['*'"orte_base_help_aggregate" to 0'*) ;; # the same from another rank
    '['*'] Read -1, expected '*', errno = 3') ;; # reading the memory of a rank that has ended
    *)
        if [ -n "$in_block" ] && [[ $1 != epmoe:* ]]; then
            block+=$1$'\n'
        elif [ "${#1}" -gt 20 ] && [[ $gone == *"$1"* ]]; then
            symptoms+=$1$'\n'
        else
            printf '%s\n' "$1" >&4
        fi
        ;;
    esac
}

# ---- the run ----

# At the first Ctrl-C epmoe serve finishes the texts that run, at the second it tells its clients and ends.
# mpirun would kill its ranks a second after either. So with serve mpirun runs in a session of its own, which
# the terminal's Ctrl-C does not reach, and this script sends it SIGUSR1, which mpirun passes on to the ranks.
softly=0 session=() # so many of the signals to come are passed on as SIGUSR1
for word in "${arguments[@]}"; do
    [ "$word" != serve ] || softly=2 session=(setsid)
done

end_job() { # Open MPI 4.1 may crash if the signal reaches mpirun when it has unloaded its handler
    told=$job
    kill -TERM "$job" 2>/dev/null
}

on_signal() { # Ctrl-C reaches mpirun from the terminal, too; a signal to this script alone does not
    local soft=''
    if [ "$softly" -gt 0 ] && [ "$1" -ne 1 ]; then
        soft=1
        kill -USR1 "$job" 2>/dev/null
        softly=$((softly - 1))
        [ "$softly" -eq 0 ] || return # the first: what runs is finished
    fi
    signalled=$1
    be_over
    [ -z "$soft" ] || return
    sleep 0.3
    end_job
}

# Pass on the first bytes that come, unless they are mpirun's own line about processes that it could not
# start, which it prints on stdout.
relay_first() {
    local own='^[0-9]+ total process(es)? failed to start$'
    dd bs=65536 count=1 status=none of="$folder/first" # one read, so output is not held back
    [[ $(head -c 64 "$folder/first" | tr -d '\0') =~ $own ]] || cat "$folder/first"
}

# mpirun does not notice if its stdout cannot be written, and fails if the reader of its stdout leaves. So
# this function reads what the ranks print and writes it to stdout. If stdout is a pipe, it is opened again,
# as its reader may have made this end non-blocking.
relay() {
    trap '' INT TERM HUP # this ends when mpirun has ended
    [ -e /dev/fd/1 ] || exec 1</dev/null
    [ ! -p /dev/fd/1 ] || exec 1>/dev/fd/1
    export LC_ALL=C # for what cat says
    { relay_first && cat; } 2>"$folder/why" || echo $? >"$folder/unwritten"
    cat >/dev/null 2>&1
}

# Remove what Open MPI leaves behind when it is killed: shared memory with the job's number in its name, and
# a directory with mpirun's process number. Their names have this host's name with or without the domain.
clean() {
    local number='' host
    read -r number 2>/dev/null <"$folder/uri"
    number=${number%%.*}
    for host in "$HOSTNAME" "${HOSTNAME%%.*}"; do
        [ -z "$number" ] || rm -f /dev/shm/vader_segment."$host.$UID.$(printf '%x' $((number + 1)))".*
        [ -z "${job:-}" ] || rm -rf "${TMPDIR:-/tmp}/ompi.$host.$UID/pid.$job"
    done
    rm -rf "$folder"
}

# A process that waits until the script has ended in any way, and then cleans up if the script has not.
janitor() {
    trap '' INT TERM HUP
    read -r job
    read -r _
    [ -d "$folder" ] || return # the script has cleaned up itself
    kill -TERM "$job" && sleep "$patience" && kill -KILL "$job"
    clean
}

# True if a directory of this host has no room for Open MPI's files; prints that.
lacks_room() {
    local free
    free=$(free_kb "$1")
    [ "${free:-8192}" -lt 8192 ] || return
    echo "epmoe: MPI cannot start: expected 8 MB free in $1 for Open MPI's files, found $free kB" >&4
}

exec 4>&2
! lacks_room "${TMPDIR:-/tmp}" || exit 1 # ranks would die in MPI_Init, or hang there
folder=$(mktemp -d) || exit 1
trap clean EXIT
export EPMOE_LAST_WORDS=$folder/words # rank 0 writes here where the run is, if it is on this host
export EPMOE_SUMMARY=$folder/summary  # and here what is to be printed after all of stdout
: >"$folder/summary"
mkfifo "$folder/stderr" "$folder/stdout" "$folder/janitor" || exit 1
relay <"$folder/stdout" 4>&- &
relayed=$!
janitor <"$folder/janitor" >/dev/null 2>&1 4>&- &
exec 5>"$folder/janitor"
"${session[@]}" mpirun --report-uri "$folder/uri" "${arguments[@]}" <&0 >"$folder/stdout" 2>"$folder/stderr" 4>&- 5>&- &
job=$!
echo "$job" >&5
exec 2>/dev/null # hides what the shell prints about children that were killed
exec 3<"$folder/stderr"
trap 'on_signal 2' INT
trap 'on_signal 15' TERM
trap 'on_signal 1' HUP

kill_all() {
    # ranks end themselves when mpirun is gone, except those that are stopped
    kill -KILL $(cat "/proc/$job/task/"*/children 2>/dev/null) "$job" 2>/dev/null
}

while :; do
    if IFS= read -r -t 0.2 -u 3 line; then
        take_line "$partial$line"
        partial=''
    else
        [ $? -gt 128 ] || break # not a timeout: all writers have closed the pipe
        partial+=$line
        kill -0 "$job" 2>/dev/null || be_over # mpirun has ended, but a process holds the pipe open
    fi
    if [ -e "$folder/unwritten" ] && [ -z "$unwritten" ]; then
        unwritten=1
        end_job
        be_over
    fi
    if [ "$limit" -ne 0 ] && [ "$SECONDS" -ge "$limit" ]; then
        kill_all
        break
    fi
done
[ -z "${partial//-/}" ] || take_line "$partial" # dashes: mpirun was killed as it began a message
[ -z "$in_block" ] || take_block
wait "$job" 2>/dev/null
code=$?
while [ "$code" -gt 128 ] && kill -0 "$job" 2>/dev/null; do # a signal to this script ended the wait
    wait "$job" 2>/dev/null
    code=$?
done
for ((tick = 0; tick < 10 * patience; tick++)); do # the reader of stdout may need time for the rest
    kill -0 "$relayed" 2>/dev/null || break
    sleep 0.1
done

# ---- the last words ----

if read -r word place <"$folder/words" 2>/dev/null; then
    where=${place:+ $place}
    [ "$word" = at ] || ended="epmoe: $word$where"
fi

finish() { # exit code, the last line
    [ -z "${2:-}" ] || printf 'epmoe: %s\n' "$2" >&4
    exit "$1"
}

# MPI did not start, though there was room for its files when the run began.
tell_unstarted() {
    ! lacks_room "${TMPDIR:-/tmp}" && ! lacks_room /dev/shm || exit 1
    printf '%s' "$symptoms" >&4
    finish 1 "MPI did not start on all ranks"
}

if [ -n "$signalled" ]; then
    case $signalled in
    1) word='hung up' ;;
    2) word=interrupted ;;
    *) word=terminated ;;
    esac
    finish $((128 + signalled)) "$word$where"
fi
if [ -e "$folder/unwritten" ]; then
    [ "$(cat "$folder/unwritten")" -lt 128 ] && ! grep -q 'Broken pipe' "$folder/why" || finish 141
    finish 1 "standard output: cannot be written: $(sed -n '1s/.*: //p' "$folder/why")"
fi
cat "$folder/summary" >&4
[ -z "$lost" ] || exit 4
[[ $unexecuted != */* ]] || [ -e "$unexecuted" ] || absent=$unexecuted
[ -z "$absent" ] || finish 127 "$absent: expected a program, found none of this name"
[ -z "$unexecuted" ] || finish 126 "$unexecuted: expected a program, found a file that cannot be executed"
[ -z "$unstarted" ] || tell_unstarted
[ -z "$died" ] || finish 4 "lost $died${where:+,$where}"
[ -z "$daemon" ] || finish 4 "lost host $daemon: no connection${where:+,$where}"
if [ -n "$unreached" ]; then
    finish 1 "expected every host to start Open MPI's daemon, found one that did not: ${reason:-orted has said nothing}"
fi
[ "$code" -eq 0 ] || printf '%s' "$symptoms${ended:+$ended$'\n'}" >&4
[ "$code" -ne 137 ] || [ -n "$ended" ] || finish 4 "lost mpirun: killed by signal 9${where:+,$where}"
exit "$code"
