#!/usr/bin/env bash
# Exit codes and the battery over MPI: tests/transport/transport_mpi.sh PATH/TO/test_transport_mpi
# With EPMOE_TEST_PAIRS each end with 2 ranks or with 4, in turn (docs/testing.md).
set -euo pipefail

program=$1 pairs=${EPMOE_TEST_PAIRS:-}
here=$(dirname "$0")/../rig
command -v mpirun >/dev/null || { echo "skipped: mpirun is not installed" && exit 77; }
export EPMOE_MPI_SECONDS=120
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0

expect() { # exit code, ranks, arguments…
    local want=$1 n=$2 got=0
    shift 2
    "$here/mpi.sh" "$n" "$program" "$@" >"$log" 2>&1 || got=$?
    [ "$got" -eq "$want" ] && return
    echo "$n ranks, $*: expected exit code $want, found $got"
    cat "$log"
    failed=1
}

# Leaks are looked for with up to 2 ranks: more do the same as the second.
for n in 1 2 3 5; do
    [ "$n" -le 2 ] || export EPMOE_MPI_LEAKS=no
    expect 0 "$n" in_order
done
for end in interrupted untaken dropped busy silent silent_message gone gone_message idle \
    too_large too_large_message; do
    turn=$((1 - ${turn:-0}))
    [ "$pairs" ] && [ $turn -eq 0 ] || EPMOE_MPI_LEAKS=yes expect 0 2 "$end"
    [ "$pairs" ] && [ $turn -eq 1 ] || expect 0 4 "$end"
done
for end in stuck_among_busy stuck_among_resting; do # one rank and two others
    expect 0 4 "$end"
done
# without leaks: a message that nobody takes cannot be taken back, MPI keeps it
[ "$pairs" ] || expect 0 2 untidy
expect 0 4 untidy
expect 0 2 computing
expect 5 3 die 5
expect 4 3 hang
expect 4 3 stop
grep -q noticed "$log" || { echo "rank 0 did not name the stopped rank" && cat "$log" && failed=1; }
expect 4 3 stop_idle
grep -q noticed "$log" || { echo "rank 0, idle, did not name the stopped rank" && cat "$log" && failed=1; }
expect 4 3 stop_0
grep -q noticed "$log" || { echo "nobody named the stopped rank 0" && cat "$log" && failed=1; }

# Started without mpirun: a world of one, and no ssh is looked for.
PATH=$(dirname "$(command -v bash)") OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
    ASAN_OPTIONS=fast_unwind_on_malloc=0 LSAN_OPTIONS=suppressions=$here/lsan.supp:print_suppressions=0 \
    "$program" in_order || failed=1
exit "$failed"
