# shellcheck shell=bash disable=SC2034 # what is set here is used by whoever sources this
# The beginning of tests of whole runs over MPI, and their checks `same` and `expect`. Sourced as
# begin.sh, which it begins with. The test is skipped if there is no mpirun.
. "$(dirname "${BASH_SOURCE[0]}")/begin.sh"
needs mpirun

# same FILE FILE WHAT: checks that the files have the same bytes; a missing file fails
same() {
    cmp -s "$1" "$2"
    result $? "$3"
}

# expect CODE TEXT COMMAND…: checks the exit code, and that exactly one line of stderr has the text
expect() {
    local code=$1 says=$2
    shift 2
    timeout 60 "$@" >/dev/null 2>"$work/stderr"
    local found=$?
    [ "$found" -eq "$code" ] && [ "$(grep -cF "$says" "$work/stderr")" -eq 1 ]
    result $? "expected exit $code and one line with \"$says\", found $found: $(cat "$work/stderr")"
}
