# shellcheck shell=bash disable=SC2034 # what is set here is used by whoever sources this
# How the tests of whole runs over MPI begin and end; sourced, with the program as first argument.
# Skips where there is no mpirun. From here on: $epmoe, $work (a directory that goes), the
# repository's root as working directory, and `same`, `expect` and `result`, which count.
set -uo pipefail
epmoe=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
command -v mpirun >/dev/null || {
    echo "skipped: no mpirun"
    exit 77
}
. tests/rig/results.sh

# same FILE FILE WHAT: the same bytes; a missing file is not
same() {
    cmp -s "$1" "$2"
    result $? "$3"
}

# expect CODE TEXT COMMAND…: exit code, and the text in exactly one line
expect() {
    local code=$1 says=$2
    shift 2
    timeout 60 "$@" >/dev/null 2>"$work/stderr"
    local found=$?
    [ "$found" -eq "$code" ] && [ "$(grep -cF "$says" "$work/stderr")" -eq 1 ]
    result $? "expected exit $code and one line with \"$says\", found $found: $(cat "$work/stderr")"
}
