# Functions for tests that make runs end badly: they check how a run ends. Sourced as begin.sh, which it
# begins with.
. "$(dirname "${BASH_SOURCE[0]}")/begin.sh"

# The time in seconds, with a fraction.
now() {
    date +%s.%N
}

since() {
    awk -v a="$1" -v b="$(now)" 'BEGIN { print b - a }'
}

less() { # a < b
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'
}

# Every process of this test that runs the program has this entry in its environment, whoever started
# it; ours() finds the processes by it.
export EPMOE_TEST_RUN=$$-$RANDOM
has_entry() { # pid, entry; no pipe, as pipefail would report a writer whose reader ends first
    local entry
    while IFS= read -r -d '' entry; do
        [ "$entry" = "$2" ] && return 0
    done 2>/dev/null <"/proc/$1/environ"
    return 1
}

ours() { # [rank]
    local p name
    for p in /proc/[0-9]*; do
        read -r name <"$p/comm" && [ "$name" = epmoe ] || continue
        p=${p#/proc/}
        has_entry "$p" "EPMOE_TEST_RUN=$EPMOE_TEST_RUN" &&
            { [ -z "${1:-}" ] || has_entry "$p" "OMPI_COMM_WORLD_RANK=$1"; } && echo "$p"
    done 2>/dev/null
}

# Waits up to two seconds until no process of a run is left; kills those that are and fails.
nothing_left() {
    local wait
    for ((wait = 0; wait < 40; wait++)); do
        [ -z "$(ours)" ] && return 0
        sleep 0.05
    done
    echo "left running: $(ours | tr '\n' ' ')"
    ours | xargs -r kill -KILL
    return 1
}

# Checks a run that has ended: its exit code, that stderr has one line, which matches a pattern, and
# that no process is left. Other jobs may hold the cores, so the seconds it took are printed and the
# check fails only if they are more than four times those that are expected.
ended() { # name of the check, exit code, the one expected, seconds it took, expected at most, pattern
    local what=$1 code=$2 want=$3 took=$4 limit=$5 says=$6
    [ "$code" -eq "$want" ]
    result $? "$what: exit code $code, expected $want"
    echo "$what: ended in $took s (on a machine of its own: at most $limit s)"
    less "$took" $((4 * limit))
    result $? "$what: took $took s, expected at most $((4 * limit)) s"
    [ "$(wc -l <"$work/stderr")" -eq 1 ] && grep -qE -- "$says" "$work/stderr"
    result $? "$what: expected one line with: $says"
    nothing_left
    result $? "$what: nothing left"
}

# The output ends with a whole line, each line is JSON, and no id is there twice.
whole_lines() {
    python3 - "$1" <<'PY'
import json, sys
text = open(sys.argv[1]).read()
assert text == "" or text.endswith("\n"), "torn"
ids = [json.loads(line)["id"] for line in text.splitlines()]
assert len(ids) == len(set(ids)), "twice"
PY
}
