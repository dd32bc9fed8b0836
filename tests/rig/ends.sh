# How a run ends, for tests that make it end badly; sourced, in the repository's root.
. tests/rig/results.sh

# Seconds with a fraction.
now() {
    date +%s.%N
}

since() {
    awk -v a="$1" -v b="$(now)" 'BEGIN { print b - a }'
}

less() { # a < b
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'
}

# The processes of this test that run the program, whoever started them: by an entry of their
# environment that all inherit.
export EPMOE_TEST_RUN=$$-$RANDOM
has_entry() { # pid, entry; without a pipe, whose reader may leave before its writer is done
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

# Nothing of a run is left, a moment after its end.
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

# The end of the run in hand: WHAT, its exit code and the one expected, seconds it took and should
# take, and what its one line on stderr says. Where other jobs hold the cores it may take longer, so
# the time is printed, and only a run that all but hangs fails.
ended() {
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

# Every line of the output is whole, and one of the input's requests.
whole_lines() {
    python3 - "$1" <<'PY'
import json, sys
text = open(sys.argv[1]).read()
assert text == "" or text.endswith("\n"), "torn"
ids = [json.loads(line)["id"] for line in text.splitlines()]
assert len(ids) == len(set(ids)), "twice"
PY
}
