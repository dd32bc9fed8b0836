# shellcheck shell=bash disable=SC2034 # what is set here is used by whoever sources this
# The beginning of tests that are scripts. Sourced, with the program as first argument. Sets $epmoe, the
# program's absolute path, changes to the repository's root, and counts what the test finds (results.sh).
# Paths that the test is given beside the program must be made absolute before.
set -uo pipefail
epmoe=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
. tests/rig/results.sh

# needs TOOL…: ends the test with 77, which is "skipped", if one of them is not installed
needs() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed" && exit 77; }
    done
}
