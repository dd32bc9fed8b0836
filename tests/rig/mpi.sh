#!/usr/bin/env bash
# Runs PROGRAM with N ranks on this host; its output and mpirun's exit code are passed on. After
# EPMOE_MPI_SECONDS, 300 by default, it is ended (exit code 124). In a build with AddressSanitizer leaks
# make it fail, except those of Open MPI, which are recognised by their callers: for that the sanitizer
# must record whole stacks, which makes runs five times as slow. EPMOE_MPI_LEAKS=no looks for no leaks.
#   tests/rig/mpi.sh 5 build/release/epmoe run …
set -euo pipefail

[ $# -ge 2 ] || { echo "usage: tests/rig/mpi.sh N PROGRAM [ARGUMENT…]" >&2 && exit 2; }
command -v mpirun >/dev/null || { echo "skipped: mpirun is not installed" && exit 77; }
n=$1
shift
here=$(realpath "$(dirname "$0")")
leaks=fast_unwind_on_malloc=0
[ "${EPMOE_MPI_LEAKS:-}" != no ] || leaks=detect_leaks=0
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}$leaks"
export LSAN_OPTIONS="suppressions=$here/lsan.supp:print_suppressions=0"
exec timeout -k 5 "${EPMOE_MPI_SECONDS:-300}" "$here/../../launch/mpirun.sh" -n "$n" "$@"
