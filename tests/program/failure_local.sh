#!/usr/bin/env bash
# Ranks that are threads: one that hangs (frozen by ptrace) in a step, between steps or at the end is
# named, and the process ends with exit code 4 in time, all finished results on disk.
#   tests/program/failure_local.sh build/ci/epmoe build/ci/tests/freeze
freeze=$(realpath "$2")
. "$(dirname "$0")/../rig/ends.sh"
model=$PWD/models/austen-moe
timeout=2
mkfifo "$work/pipe"

request() { # id, tokens
    echo "{\"id\": \"$1\", \"prompt\": \"Emma\", \"max_tokens\": $2, \"ignore_eos\": true}"
}

# A batch that reads requests from file descriptor 9 and has answered the first.
start_batch() {
    rm -f "$work/out"
    "$epmoe" batch -m "$model" -i "$work/pipe" -o "$work/out" --ranks 3 -t 1 -q --timeout "$timeout" \
        2>"$work/stderr" >"$work/stdout" &
    job=$!
    exec 9>"$work/pipe"
    request first 5 >&9
    for ((wait = 0; wait < 2000; wait++)); do
        [ -s "$work/out" ] && break
        sleep 0.01
    done
}

# Freeze the thread of that name.
freeze_thread() {
    rm -f "$work/frozen"
    "$freeze" "$job" "$1" >"$work/frozen" 2>&1 9>&- &
    for ((wait = 0; wait < 2000; wait++)); do
        [ -s "$work/frozen" ] && break
        sleep 0.01
    done
    grep -q skipped "$work/frozen" && cat "$work/frozen" && kill "$job" && exit 77
    grep -q frozen "$work/frozen"
    result $? "freeze: $(cat "$work/frozen")"
}

end_batch() { # start, name, code, limit, line
    local code
    wait "$job"
    code=$?
    ended "$2" "$code" "$3" "$(since "$1")" "$4" "$5"
    exec 9>&-
    whole_lines "$work/out" && [ "$(wc -l <"$work/out")" -eq 1 ]
    result $? "$2: expected the first result, found $(wc -l <"$work/out") lines"
}

start_batch
freeze_thread 'rank 2'
start=$(now)
request second 500 >&9
end_batch "$start" "a worker hangs" 4 $((timeout + 5)) \
    'lost rank 2 on [^ ]+: no progress for 2.0 s, rows awaited in layer [0-9]+ of step [0-9]+ \(prefill of 1 row\); last finished step: 5'

# wherever it is: within a layer, or where rank 0 awaits its part of the logits
start_batch
request second 1900 >&9
sleep 0.05
freeze_thread 'rank 1'
start=$(now)
end_batch "$start" "a worker hangs in decode" 4 $((timeout + 5)) \
    'lost rank 1 on [^ ]+: no progress for 2.0 s, rows awaited (in layer [0-9]+ of step [0-9]+ \((decode|prefill) of 1 row\)|between steps); last finished'

start_batch
freeze_thread 'rank 2'
start=$(now)
exec 9>&- # the end of the input: all is done, but one worker does not end
end_batch "$start" "a worker hangs at the end" 4 5 'lost rank 2 on [^ ]+: it does not end'

start_batch
request second 1900 >&9
sleep 0.05
freeze_thread epmoe
start=$(now)
end_batch "$start" "rank 0 hangs in decode" 4 $((timeout + 5)) \
    'lost rank 0 on [^ ]+: no progress for 2.0 s, (rows|a message) awaited '

finish
