#!/usr/bin/env bash
# A batch that is killed at random and resumed until it is done: every id exactly once, every answer
# the one of a single process that nobody disturbed, and no line that was finished is ever lost.
# Each round draws anew how the ranks run (threads, MPI), how rows travel, and whom SIGKILL takes.
#   tests/program/soak.sh build/release/epmoe [REQUESTS] [SEED]
# 60 requests and 8 kills if nothing is said; with EPMOE_TEST_PAIRS 30 and 5.
set -uo pipefail
epmoe=$(realpath "$1")
requests=${2:-${EPMOE_TEST_PAIRS:+30}} seed=${3:-1}
requests=${requests:-60}
cd "$(dirname "$0")/../.."
model=models/austen-moe ranks=5
export EPMOE_MPI_LEAKS=no # most runs are killed; batch.sh looks for leaks of runs that end by themselves
work=$(mktemp -d)
started=$SECONDS
RANDOM=$seed

# every process below $1, itself included
tree() {
    local child
    echo "$1"
    for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
        tree "$child"
    done
}

# All below $1 at once: stopped first, so that nothing starts a child between the look and the kill.
kill_below() {
    local seen="" now
    now=$(tree "$1" | tail -n +2)
    while [ "$now" != "$seen" ]; do
        kill -STOP $now 2>/dev/null
        seen=$now now=$(tree "$1" | tail -n +2)
    done
    kill -KILL $now 2>/dev/null
}

root=""
trap '[ -z "$root" ] || kill_below "$root"; rm -rf "$work"' EXIT

die() {
    echo "soak: $1 (seed $seed, round $rounds: ${kind:-} ${target:-} ${options[*]:-})"
    exit 1
}

# Mixed lengths: prompts of 1 to 400 tokens (words that the vocabulary has whole), 1 to 64 new ones.
make_input() {
    python3 - "$model/tokenizer.json" "$requests" "$seed" <<'PY'
import json, random, re, sys
vocab = json.load(open(sys.argv[1]))["model"]["vocab"]
words = sorted(w[1:] for w in vocab if re.fullmatch("Ġ[a-z]+", w))
draw = random.Random(int(sys.argv[3]))
for i in range(int(sys.argv[2])):
    n = draw.choice((draw.randint(1, 24), draw.randint(1, 400)))
    request = {"id": f"r{i}", "max_tokens": draw.randint(1, 64), "seed": draw.getrandbits(63)}
    request["prompt"] = "".join(" " + draw.choice(words) for _ in range(n))
    if draw.random() < 0.7:
        request["temperature"] = draw.choice((0, 0.7, 1, 1.5))
    if draw.random() < 0.3:
        request["top_p"] = draw.choice((0.5, 0.9))
    if draw.random() < 0.3:
        request["top_k"] = draw.choice((0, 1, 20, 200))
    if draw.random() < 0.3:
        request["repetition_penalty"] = draw.choice((0.9, 1.1, 1.3))
    if draw.random() < 0.2:
        request["stop"] = draw.choice(("e", ["ing", " the "]))
    if draw.random() < 0.5:
        request["ignore_eos"] = True
    print(json.dumps(request))
PY
}

one_of() {
    local words=("$@")
    picked=${words[RANDOM % $#]}
}

# options := what changes no answer, at random
draw_options() {
    options=()
    one_of 1 2 5 16 && options+=(--max-batch "$picked")
    one_of 16 150 2048 && options+=(--chunk "$picked")
    one_of exact padded allgather && options+=(--strategy "$picked")
    one_of on off && options+=(--dedup "$picked")
    one_of even round-robin && options+=(--placement "$picked")
    one_of 0 0 7 && options+=(--home "$picked")
    one_of on off && options+=(--overlap "$picked")
}

lines() {
    wc -l <"$work/out"
}

start() { # kind: threads or mpi
    local job=(batch -m "$model" -i "$work/in" -o "$work/out" --resume -q "${options[@]}")
    if [ "$1" = mpi ]; then
        job=(tests/rig/mpi.sh $ranks "$epmoe" "${job[@]}")
    else
        job=("$epmoe" "${job[@]}" --ranks $ranks)
    fi
    (
        EPMOE_MPI_SECONDS=600 timeout -k 5 600 "${job[@]}"
        exit $?
    ) >/dev/null 2>"$work/stderr" &
    root=$!
}

# The process of an MPI rank, when it is there: mpirun tells each its number.
pid_of_rank() {
    local pid
    for pid in $(tree "$root"); do
        tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -qx "OMPI_COMM_WORLD_RANK=$1" || continue
        [ "$(readlink "/proc/$pid/exe")" = "$epmoe" ] && echo "$pid" && return
    done
}

running() {
    [ -d "/proc/$root" ] && ! grep -q '^State:	Z' "/proc/$root/status" 2>/dev/null
}

# SIGKILL for: the whole job, rank 0, a worker, or mpirun alone, whose ranks must then end by themselves
strike() {
    local rank pid
    case $1 in
    job) kill_below "$root" ;;
    mpirun)
        for pid in $(tree "$root"); do
            [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = mpirun ] && kill -KILL "$pid"
        done
        ;;
    *)
        rank=0
        [ "$1" = worker ] && rank=$((1 + RANDOM % (ranks - 1)))
        while running && pid=$(pid_of_rank $rank) && [ -z "$pid" ]; do sleep 0.01; done
        [ -z "${pid:-}" ] || kill -KILL "$pid" 2>/dev/null
        ;;
    esac
}

# Nothing of a job may be left a while after it ended.
await_end_of() {
    local pid wait
    for pid in "$@"; do
        for ((wait = 0; wait < 4000; wait++)); do
            [ "$(readlink "/proc/$pid/exe" 2>/dev/null)" = "$epmoe" ] || break
            sleep 0.01
        done
        [ "$wait" -lt 4000 ] || { kill -KILL "$pid"; die "process $pid was left running"; }
    done
}

# Whatever stood finished in the file stands there still.
check_kept() {
    local bytes
    bytes=$(stat -c %s "$work/kept")
    cmp -s -n "$bytes" "$work/kept" "$work/out" || die "finished lines were lost"
    head -n "$(lines)" "$work/out" >"$work/kept"
}

wait_for_strike() {
    local until
    until=$(($(lines) + RANDOM % (requests / strikes + 1)))
    while running && [ "$(lines)" -lt "$until" ]; do sleep 0.01; done
    sleep "0.$(printf %03d $((RANDOM % 100)))" # in load, in prefill, in decode
}

# Each way to end once, then any.
draw_target() {
    local all=("mpi worker" "threads job" "mpi rank-0" "mpi job" "mpi mpirun")
    [ "$has_mpi" = yes ] || all=("threads job")
    if [ $rounds -le ${#all[@]} ]; then
        picked=${all[rounds - 1]}
    else
        one_of "${all[@]}"
    fi
    read -r kind target <<<"$picked"
}

declare -A kills=([job]=0 [rank-0]=0 [worker]=0 [mpirun]=0)
killed=0 resumes=0 rounds=0
round() { # with or without a strike
    local code before processes
    rounds=$((rounds + 1))
    draw_target
    draw_options
    before=$(lines)
    start $kind
    [ "$before" -eq 0 ] || resumes=$((resumes + 1))
    if [ "$1" = strike ]; then
        wait_for_strike
        processes=$(tree "$root")
        running && strike $target
    fi
    wait "$root" 2>/dev/null
    code=$?
    await_end_of ${processes:-}
    root=""
    check_kept
    judge "$1" $code
}

# 137: SIGKILL, of the job or as mpirun reports it; 4: rank 0 or the runner saw a rank go
judge() {
    case $2 in
    0) [ "$(lines)" -eq "$requests" ] || die "exit code 0 with $(lines) of $requests lines" ;;
    4 | 137)
        [ "$1" = strike ] || die "exit code $2 and nobody was killed: $(cat "$work/stderr")"
        kills[$target]=$((kills[$target] + 1)) killed=$((killed + 1))
        ;;
    *) die "exit code $2: $(cat "$work/stderr")" ;;
    esac
}

has_mpi=no
command -v mpirun >/dev/null && has_mpi=yes
strikes=$((requests / 20 < 8 ? 8 : requests / 20 > 60 ? 60 : requests / 20))
[ -z "${EPMOE_TEST_PAIRS:-}" ] || strikes=5 # each way to end once
make_input >"$work/in"
timeout 1200 "$epmoe" batch -m "$model" -i "$work/in" -o "$work/whole" 2>"$work/summary" ||
    die "alone: $(cat "$work/summary")"
[ "$(sed -n 's/^{"id": "\([^"]*\)", "text".*/\1/p' "$work/whole" | sort -u | wc -l)" -eq "$requests" ] ||
    die "alone: expected $requests results: $(cat "$work/summary")"

: >"$work/out"
: >"$work/kept"
while [ $rounds -lt $strikes ] && [ "$(lines)" -lt "$requests" ]; do
    round strike
done
round whole
[ "$killed" -gt 0 ] || die "nothing was killed"
sort "$work/whole" >"$work/wanted"
sort "$work/out" | cmp -s - "$work/wanted" ||
    die "other answers: $(diff <(sort "$work/out") "$work/wanted" | head -n 4 | cut -c 1-300)"
echo "soak: $requests requests, $killed kills (job ${kills[job]}, rank 0 ${kills[rank-0]}," \
    "a worker ${kills[worker]}, mpirun ${kills[mpirun]}), $resumes resumes, $((SECONDS - started)) s"
