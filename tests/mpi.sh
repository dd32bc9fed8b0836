#!/usr/bin/env bash
# Run PROGRAM with N ranks on this host; its output and mpirun's exit code come through. It is ended
# (124) after EPMOE_MPI_SECONDS, 300 by default.
#   tests/mpi.sh 5 build/release/epmoe run …
set -euo pipefail

[ $# -ge 2 ] || { echo "usage: tests/mpi.sh N PROGRAM [ARGUMENT…]" >&2 && exit 2; }
command -v mpirun >/dev/null || { echo "skipped: mpirun is not installed" && exit 77; }
n=$1
shift
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0" # MPI's own leaks
exec timeout -k 5 "${EPMOE_MPI_SECONDS:-300}" "$(dirname "$0")/../launch/mpirun.sh" -n "$n" "$@"
