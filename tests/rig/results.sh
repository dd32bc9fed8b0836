# shellcheck shell=bash
# Counts what a test that is a script finds. Sourced. Sets $work, a folder that is removed at the end.
# The test calls `result` after each condition, and `finish` as its last command.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0 passed=0

# The status comes first: in "result WHAT $?" a command in WHAT would change $?.
result() { # the condition's status, what is wrong if it failed; then prints $work/stderr as well
    if [ "$1" -eq 0 ]; then
        passed=$((passed + 1))
        return
    fi
    failed=$((failed + 1))
    echo "failed: $2"
    [ ! -s "$work/stderr" ] || sed -n '1,60s/^/    /p' "$work/stderr"
}

finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}
