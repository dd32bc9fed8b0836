# The steps of tools/gpu_check.sh --correct; sourced by step.sh.

doctor() {
    epmoe doctor
}

# List every program of the kit that lacks a library, with the libraries that the loader does not find.
missing_libraries() {
    local file missing
    for file in "$binary/epmoe" "$binary"/tests/{test_,gpu_}* "$binary"/mpi/bin/*; do
        [ -f "$file" ] && [ -x "$file" ] || continue
        ldd "$file" 2>/dev/null | sed -n "s|^\t*\(.*\) => not found|$(basename "$file"): \1|p"
    done >"$work/missing"
    missing=$(sort -u "$work/missing")
    [ -z "$missing" ] || wrong "expected all libraries, found these missing:"$'\n'"$missing"
    echo "all libraries are there"
}

generated() { # device dtype
    epmoe run -m models/austen-moe --device "$1" --dtype "$2" --temp 0 -n "$text" --ids -q -p \
        "$([ -n "$quick" ] && echo Emma || echo 'It is a truth universally acknowledged')"
}

# How many tokens two lists of ids have in common from the start.
same_tokens() { # ids ids
    paste <(tr ' ' '\n' <<<"$1") <(tr ' ' '\n' <<<"$2") | awk '$1 != $2 { exit } { n++ } END { print n + 0 }'
}

# Compare the tokens that GPU and CPU generate. In f32 the rounding differs by too little to choose
# another token. In bf16 a later token may differ: the first three must agree, and it prints how many do.
compare_texts() {
    local gpu cpu type same least
    for type in f32 bf16; do
        gpu=$(generated cuda $type) && cpu=$(generated cpu $type) || wrong "expected two texts in $type"
        same=$(same_tokens "$gpu" "$cpu")
        least=$(wc -w <<<"$cpu")
        [ $type = f32 ] || [ "$least" -le 3 ] || least=3
        echo "$type: the first $same of $(wc -w <<<"$cpu") tokens are the same"
        [ "$same" -ge "$least" ] || wrong "expected the GPU's first $least tokens in $type to be \"$cpu\", found \"$gpu\""
    done
}

unit_test() { # program
    EPMOE_TEST_ONLY=cuda program "$1"
}

early_same() {
    program gpu_same -m "synth:$preset:$layers" --prompt "$same_prompt" --rows "$rows" --batch "$batch" \
        --repeats "$same_repeats"
}

logits_both_ways() {
    local all
    all=$(ids "$tokens")
    epmoe logits -m "$model" --device cuda --tokens "$all" -o "$work/together" &&
        epmoe logits -m "$model" --device cuda --tokens "$all" -o "$work/alone" --chunk 1
}

peer_logits() {
    peer --model "$model" --tokens "$(ids "$tokens")" \
        "epmoe, one step=$work/together" "epmoe, row by row=$work/alone"
}

# Runs for a tool that makes kernels a hundred times slower, so they are small: a prompt of several tiles
# with sampled tokens after it, a small model row by row, and the kernels that these two do not run.
sanitized_cases() {
    cat <<CASES
$binary/epmoe run -m models/austen-moe --device cuda --tokens $(ids 100) -n 4 --temp 0.8 --ids -q
$binary/epmoe logits -m tests/golden/models/moe-60-short --device cuda --tokens $(ids 6) --chunk 1 -o $work/sanitized
$binary/tests/test_rows
$binary/tests/test_wire
CASES
}

sanitize() { # tool
    local case rc log=$work/sanitizer
    command -v compute-sanitizer >/dev/null || cannot "compute-sanitizer is not installed"
    while read -r case; do
        echo "== $1: $case"
        # shellcheck disable=SC2086 # words without spaces
        EPMOE_OWN_ALLOCATIONS=1 EPMOE_TEST_ONLY=cuda compute-sanitizer --tool "$1" --error-exitcode 9 \
            --print-limit 5 $case >"$log" 2>&1 </dev/null
        rc=$?
        tail -n 40 "$log"
        ! grep -q 'Device not supported' "$log" || cannot "compute-sanitizer: Device not supported"
        grep -q 'ERROR SUMMARY\|RACECHECK SUMMARY' "$log" || wrong "expected $1 to end with a summary, found none"
        [ $rc -eq 0 ] || wrong "expected no error of $1, found the above (exit code $rc)"
    done < <(sanitized_cases)
}

nccl_threads() { # ranks
    program gpu_ranks -m "$ranks_model" --ranks "$1" --rows "$rows" --steps "$ranks_steps"
}

# With the real shape, whose rows are ten times as wide.
nccl_true_shape() {
    program gpu_ranks -m "synth:$preset:$layers" --ranks 2 --rows "$rows" --steps "$ranks_steps"
}

nccl_processes() { # ranks
    [ -x "$binary/tests/gpu_ranks" ] || wrong "expected gpu_ranks among the programs, found it not built"
    command -v mpirun >/dev/null || wrong "expected mpirun on the PATH or in the kit, found none"
    launch/mpirun.sh -n "$1" "$binary/tests/gpu_ranks" -m "$ranks_model" --rows "$rows" --steps "$ranks_steps"
}

# The exchange by itself; every row and result is compared.
alltoall() {
    epmoe alltoall --ranks 2 --transport nccl --tokens 1,128 -n 5 -c
}

# ---- one of three ranks is stopped ----

request() { # id
    echo "{\"id\": \"$1\", \"prompt\": \"Emma\", \"max_tokens\": 3, \"ignore_eos\": true}"
}

# The process id of a rank of this step's run.
rank_process() { # rank
    local at
    for at in /proc/[0-9]*; do
        [ "$(cat "$at/comm")" = epmoe ] && tr '\0' '\n' <"$at/environ" |
            grep -cx "GPU_CHECK_RUN=$GPU_CHECK_RUN\|OMPI_COMM_WORLD_RANK=$1" | grep -qx 2 && echo "${at#/proc/}"
    done 2>/dev/null
}

# Start a batch that reads requests from a pipe, so that it is certainly running when rank 1 is stopped.
# Then send more requests: the batch must end in time. The emulation cannot do this: it has no NCCL
# between processes, and a step of its GPU can take longer than the timeout.
stopped_rank() {
    local job code start took limit=6 how=(--device cuda --transport nccl)
    [ -z "$quick" ] || limit=4 how=(--device cpu --transport mpi)
    command -v mpirun >/dev/null || wrong "expected mpirun on the PATH or in the kit, found none"
    export GPU_CHECK_RUN=$$-$RANDOM
    mkfifo "$work/requests" && exec 9<>"$work/requests"
    launch/mpirun.sh -n 3 "$binary/epmoe" batch -m models/austen-moe "${how[@]}" \
        -i "$work/requests" -o "$work/results" -t 1 -q --timeout $limit 9>&- 2>"$work/said" &
    job=$!
    request first >&9
    while [ ! -s "$work/results" ] && kill -0 $job 2>/dev/null; do
        sleep 0.05
    done
    victim=$(rank_process 1)
    [ -n "$victim" ] || { cat "$work/said" && wrong "expected a run of 3 ranks to answer, found that it had ended"; }
    start=$SECONDS
    trap 'kill -KILL "$victim" 2>/dev/null' EXIT
    kill -STOP "$victim"
    request second >&9
    wait $job
    code=$?
    cat "$work/said"
    [ $code -eq 4 ] || wrong "expected exit code 4 after rank 1 was stopped, found $code"
    grep -q 'lost rank 1' "$work/said" || wrong "expected a line that rank 1 was lost, found none"
    took=$((SECONDS - start))
    [ -n "$quick" ] || [ $took -le $((limit + 6)) ] || wrong "expected the end within $((limit + 6)) s, found $took s"
    echo "rank 1 was stopped: exit code 4 after $took s"
}
