# shellcheck shell=bash
# What a test that is a script finds, counted; sourced. From here on: $work, a folder that goes,
# `result` after each condition, and `finish` as the last command.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0 passed=0

# The status comes first: in "result WHAT $?" a command in WHAT would change $?.
result() { # condition's status, what went wrong if it did; with what the program said
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
