#!/usr/bin/env bash
# A laboratory: runs a program as ranks on this machine, each of which is a host of its own. See docs/launch.md.
#   launch/lab.sh -n 5 --cpu 0.34 --rate 1gbit -- epmoe bench -m models/austen-moe
# This script checks the options and removes what a run leaves behind. launch/lab/inside.sh is the run
# itself, in namespaces that end with it. Exit codes are the program's; 2 for bad usage, 1 if the
# laboratory cannot be built.
set -uo pipefail

usage() {
    cat <<'USAGE'
usage: launch/lab.sh [options] -- PROGRAM [arguments]

Run PROGRAM as N ranks under mpirun, each a host of its own: one core, its own network, host name and
shared memory. Hosts reach each other by TCP over a switch. Needs root.

  -n N            ranks, 1 to 64 (1: PROGRAM alone, without mpirun and network)
  --cpu S         each rank may run for S of one core, 0.05 to 0.9: S of every 2 ms, then it is stopped
                  (as much as the cores allow); N times S is at most 0.9 of the cores
  --rate R        each host's link, both ways: 100mbit, 1gbit, 2.5gbit (as fast as memory)
  --delay D       what a packet takes from host to host: 50us, 1ms (none; needs the kernel's netem)
  --memory M      of each rank: 512M, 8G (no limit; needs the memory controller of cgroup version 2)
  --no-roof       do not measure the read bandwidth of one rank and of all at once first
  -h, --help      this text
USAGE
}

complain() { # exit code, text
    printf 'lab.sh: %s\n' "$2" >&2
    exit "$1"
}

misused() {
    complain 2 "$1; lab.sh --help lists the options"
}

# ---- options ----

export LAB_RANKS=1 LAB_CPU='' LAB_RATE='' LAB_DELAY='' LAB_MEMORY='' LAB_ROOF=1
given=("$@")

take_value() { # name, pattern, what is expected, value
    [[ $4 =~ ^($2)$ ]] || misused "$1: expected $3, found \"$4\""
}

while [ $# -gt 0 ]; do
    option=$1
    case $option in
    --) break ;;
    -h | --help) usage && exit 0 ;;
    --no-roof) LAB_ROOF='' && shift && continue ;;
    -n | --cpu | --rate | --delay | --memory) ;;
    *) misused "expected an option or -- and a program, found \"$option\"" ;;
    esac
    [ $# -ge 2 ] && [ "$2" != -- ] || misused "$option: expected a value, found none"
    case $option in
    -n) take_value -n '[1-9][0-9]?' 'ranks from 1 to 64' "$2" && LAB_RANKS=$2 ;;
    --cpu) take_value --cpu '0?\.[0-9]+' 'a share of a core from 0.05 to 0.9' "$2" && LAB_CPU=$2 ;;
    --rate) take_value --rate '[0-9]+(\.[0-9]+)?[kmg]bit' 'a rate such as 1gbit' "$2" && LAB_RATE=$2 ;;
    --delay) take_value --delay '[0-9]+(\.[0-9]+)?(us|ms|s)' 'a time such as 50us' "$2" && LAB_DELAY=$2 ;;
    --memory) take_value --memory '[1-9][0-9]*[KMG]' 'a size such as 8G' "$2" && LAB_MEMORY=$2 ;;
    esac
    shift 2
done
[ $# -ge 2 ] || misused "expected -- and a program, found no program"
shift

is_true() { # an expression for awk
    awk "BEGIN { exit !($1) }"
}

cores=$(nproc)
[ "$LAB_RANKS" -le 64 ] || misused "-n: expected ranks from 1 to 64, found \"$LAB_RANKS\""
if [ -n "$LAB_CPU" ]; then
    is_true "$LAB_CPU >= 0.05 && $LAB_CPU <= 0.9" ||
        misused "--cpu: expected a share of a core from 0.05 to 0.9, found \"$LAB_CPU\""
    is_true "$LAB_RANKS * $LAB_CPU <= 0.9 * $cores + 1e-9" || misused "--cpu: expected at most $(awk \
        "BEGIN { print 0.9 * $cores / $LAB_RANKS }") ($LAB_RANKS ranks within 0.9 of $cores cores), found $LAB_CPU"
fi
[ "$LAB_RANKS" -gt 1 ] || [ -z "$LAB_RATE$LAB_DELAY" ] ||
    misused "--rate, --delay: expected -n 2 or more, found one rank, which has no network"
command -v "$1" >/dev/null || misused "expected a program after --, found \"$1\""

# ---- what the machine must have ----

[ "$(id -u)" -eq 0 ] ||
    complain 1 "expected root (it makes namespaces, links and cgroups), found user $(id -un)"
needed=(unshare setpriv mount taskset)
[ "$LAB_RANKS" -eq 1 ] || needed+=(ip tc mpirun)
for tool in "${needed[@]}"; do
    command -v "$tool" >/dev/null ||
        complain 1 "expected $tool (util-linux, iproute2, openmpi-bin: launch/install.sh), found none"
done

LAB_ROOT=$(realpath "$(dirname "$0")/..")
find_tools() { # in the folder of any word of the command, or the one above, or in a build
    local word place
    for word in "$@" "$LAB_ROOT"/build/{release,*}/epmoe; do
        for place in "$(dirname -- "$(command -v -- "$word")")"{,/..}; do
            [ -x "$place/lab_throttle" ] && [ -x "$place/lab_read" ] && LAB_TOOLS=$(realpath "$place") && return
        done
    done
    complain 1 "expected lab_throttle and lab_read beside the program or in build/*, found none: build first"
}
find_tools "$@"
export LAB_ROOT LAB_TOOLS LAB_DIR=/run/epmoe-lab.$$

# Start this script again in a mount namespace, as the same process, so that mounts end with the run.
if [ "${LAB_MOUNTS:-}" != $$ ]; then
    LAB_MOUNTS=$$ exec unshare --mount --propagation private -- "$0" "${given[@]}"
fi

# ---- clean up ----

# Kill all processes in the cgroups of one laboratory, and remove the cgroups.
remove_cgroups() { # directory
    local group wait
    echo 1 >"$1/cgroup.kill" 2>/dev/null
    for ((wait = 0; wait < 50; wait++)); do
        for group in "$1"/*/; do
            rmdir "$group" 2>/dev/null
        done
        rmdir "$1" 2>/dev/null && return
        [ -d "$1" ] || return
        sleep 0.1
    done
    echo "lab.sh: expected $1 to be empty, found processes $(cat "$1"/*/cgroup.procs | tr '\n' ' ')" >&2
}

# When a run is killed with SIGKILL, its processes, network and mounts end with it, but its cgroups and an
# empty directory are left. Remove those of runs that are no longer there.
remove_stale() {
    local old
    for old in /run/epmoe-lab.* "$LAB_DIR"/cgroup/epmoe-lab.*; do
        [ ! -d "$old" ] || [ "$old" = "$LAB_DIR" ] || [ -d "/proc/${old##*.}" ] && continue
        echo "lab.sh: removing $old of a run that was killed" >&2
        [[ $old != */cgroup/* ]] || remove_cgroups "$old"
        rmdir "$old" 2>/dev/null
    done
}

cleanup() {
    [ -z "${run:-}" ] || kill -KILL "$run" 2>/dev/null && wait "$run" 2>/dev/null
    [ ! -d "$LAB_DIR/cgroup" ] || remove_cgroups "$LAB_DIR/cgroup/epmoe-lab.$$"
    umount -l "$LAB_DIR/cgroup" "$LAB_DIR" 2>/dev/null
    rmdir "$LAB_DIR"
}
trap cleanup EXIT

signalled=''
pass_on() { # to the first process of the run's namespace; unshare, its parent, takes no signals
    signalled=1
    [ -z "${run:-}" ] || kill -"$1" $(cat "/proc/$run/task/$run/children") 2>/dev/null
}
trap 'pass_on INT' INT
trap 'pass_on TERM' TERM
trap 'pass_on HUP' HUP

# ---- the run ----

build_failed() {
    complain 1 "expected to be allowed $1, found: $(cat "$LAB_DIR/why" 2>/dev/null)"
}

mkdir -p /run/netns "$LAB_DIR" || exit 1
mount -t tmpfs tmpfs "$LAB_DIR" || build_failed "a mount of its own"
mkdir "$LAB_DIR/cgroup"
mount -t cgroup2 none "$LAB_DIR/cgroup" 2>"$LAB_DIR/why" || build_failed "a mount of cgroup version 2"
remove_stale
mkdir "$LAB_DIR/cgroup/epmoe-lab.$$" 2>"$LAB_DIR/why" || build_failed "a cgroup"
export LAB_CGROUP=$LAB_DIR/cgroup/epmoe-lab.$$

# If this script ends, so does unshare, with it the first process of the namespace, and with that all
# others. Bash lets children in the background ignore SIGINT, so env restores its default.
env --default-signal=INT setpriv --pdeathsig KILL -- unshare --pid --fork --kill-child --mount-proc -- \
    "$LAB_ROOT/launch/lab/inside.sh" "$@" <&0 &
run=$!
[ -z "$signalled" ] || kill -KILL "$run" # the signal came before the run had begun
while :; do
    wait "$run"
    code=$?
    [ "$code" -gt 128 ] && kill -0 "$run" 2>/dev/null || break
done
run=''
exit "$code"
