#!/usr/bin/env bash
# --transport nccl on emulated GPUs, from outside: what it cannot do is refused by name; rows move
# while the GPU computes; and whatever NCCL or a GPU does wrong ends the run in time, by every
# strategy, with one line about it, whichever rank it happens to.
#   tests/gpu/nccl.sh build/emulated/epmoe
#   EPMOE_NCCL_BLOCKING=0 tests/gpu/nccl.sh build/emulated/epmoe      the other form of communicator
. "$(dirname "$0")/../rig/begin.sh"
export EPMOE_EMULATED_GPUS=9
timeout=3
nccl=(--ranks 3 --transport nccl)

# run "ENVIRONMENT…" options…: exit code in $code, its own lines in $work/lines, all in $work/stderr
run() {
    local setting
    read -ra setting <<<"$1"
    shift
    env "${setting[@]}" timeout 100 "$epmoe" logits -m tests/golden/models/moe-60 --tokens 1,2,3 -t 1 --placement even \
        -o "$work/logits" --timeout $timeout --device cuda "$@" >/dev/null 2>"$work/stderr"
    code=$?
    grep '^epmoe: ' "$work/stderr" >"$work/lines"
}
expect() { # exit codes, text of the one line, then as run
    local codes=$1 text=$2
    shift 2
    run "$@"
    [[ " $codes " == *" $code "* ]] && [ "$(wc -l <"$work/lines")" -eq 1 ] &&
        grep -q -- "$text" "$work/lines"
    result $? "$*: expected exit $codes and one line with \"$text\", found $code"
}

expect 2 'device cuda for all' A=B "${nccl[@]}" --worker-device cpu
expect 2 'EPMOE_NCCL_BLOCKING: expected 0 or 1, found yes' EPMOE_NCCL_BLOCKING=yes "${nccl[@]}"

# Ranks share a GPU by a new NCCL that is told so; the refusal names what is missing.
new=EPMOE_EMULATED_NCCL=2.30.3 enabled=NCCL_MULTI_RANK_GPU_ENABLE=1
expect 2 "each of 3 ranks, found 2: .* local, or .* 2.30 or newer (found 2.28.9) and $enabled (found none)" \
    EPMOE_EMULATED_GPUS=2 "${nccl[@]}"
expect 2 "(found 2.29.7) and $enabled (found 1)" \
    "EPMOE_EMULATED_GPUS=2 EPMOE_EMULATED_NCCL=2.29.7 $enabled" "${nccl[@]}"
expect 2 "(found 2.30.3) and $enabled (found none)" "EPMOE_EMULATED_GPUS=2 $new" "${nccl[@]}"
expect 1 'workers that share it 4.*GiB free' "EPMOE_EMULATED_GPUS=1 $new $enabled" --ranks 9 --transport nccl \
    --strategy padded --overlap on
run "EPMOE_EMULATED_GPUS=2 $new $enabled EPMOE_EMULATED_TRACE=$work/trace" "${nccl[@]}"
[ "$code" -eq 0 ] && grep -q '^1 ncclSend' "$work/trace" && ! grep -q '^2 ' "$work/trace"
result $? "three ranks on two GPUs"
run "EPMOE_EMULATED_GPUS=2 $new $enabled" --ranks 3 -v
[ "$code" -eq 0 ] && grep -q 'not by NCCL: .*each of 3 ranks, found 2' "$work/stderr"
result $? "ranks that could share a GPU, but did not ask to"
doctor() { # text ENVIRONMENT…
    local text=$1
    shift
    env "$@" "$epmoe" doctor | grep -q "^ok *NCCL *$text"
    result $? "doctor, $*: expected $text"
}
doctor '2.30.3 .*; ranks can share a GPU' $new $enabled
doctor '2.30.3 .*; ranks cannot share a GPU' $new
doctor '2.28.9 .*; ranks cannot share a GPU' $enabled
expect 2 'expected mpirun' A=B --ranks 3 --transport mpi

# The exchange by itself: every row and result that NCCL has moved is compared.
for strategy in exact padded allgather; do
    for how in "" "--combine sum" "--wire int8" "--dedup off"; do
        read -ra options <<<"$how"
        env EPMOE_EMULATED_TRACE="$work/trace" timeout 100 "$epmoe" alltoall "${nccl[@]}" --strategy $strategy \
            "${options[@]}" --tokens 1,40 --hidden 96 --experts 12 -w 1 -n 2 -c >"$work/table" 2>"$work/stderr"
        [ $? -eq 0 ] && grep -q 'transport nccl' "$work/table" && [ "$(grep -c ' right$' "$work/table")" -eq 2 ] &&
            grep -qE '^0 nccl(Send|AlltoAll|Broadcast)' "$work/trace"
        result $? "alltoall by NCCL, $strategy $how: $(tail -n 2 "$work/stderr")"
    done
done
for call in cudaMalloc:3 ncclCommInitRankConfig:2 ncclSend:2; do
    env EPMOE_EMULATED_FAIL=$call timeout 100 "$epmoe" alltoall "${nccl[@]}" --timeout $timeout --tokens 40 --hidden 96 \
        >/dev/null 2>"$work/stderr"
    code=$?
    [[ $code == [14] ]] && [ "$(grep -c '^epmoe: ' "$work/stderr")" -eq 1 ]
    result $? "alltoall, $call fails: exit code $code, $(cat "$work/stderr")"
done

# Where nothing is said, NCCL moves rows if it can, and -v says why it does not.
run EPMOE_EMULATED_TRACE="$work/trace" --ranks 3 -v
[ "$code" -eq 0 ] && grep -q ncclSend "$work/trace" && ! grep -q 'not by NCCL' "$work/stderr"
result $? "a GPU for each rank"
run EPMOE_EMULATED_GPUS=2 --ranks 3 -v
[ "$code" -eq 0 ] && grep -q 'not by NCCL: .*each of 3 ranks, found 2' "$work/stderr"
result $? "ranks that share a GPU"
run A=B --ranks 3 -v --worker-device cpu
[ "$code" -eq 0 ] && grep -q 'not by NCCL: .*cuda for all' "$work/stderr"
result $? "workers without GPUs"

# What rank 0 puts on its queues, a letter each: (s)end, (r)eceive, (a)ll-to-all, (b)roadcast, their
# start (.), (f)fn of the shared expert and of those at home, rou(t)e, one queue (w)aits for the
# other, the host asks whether its rows have moved (q).
order() { # options: the letters
    run EPMOE_EMULATED_TRACE="$work/trace" "${nccl[@]}" --home 7 "$@"
    sed -nE 's/^0 ncclSend/s/p; s/^0 ncclRecv/r/p; s/^0 ncclAlltoAll/a/p; s/^0 ncclBroadcast/b/p
        s/^0 ncclGroupEnd/./p; s/^0 ffn_.*/f/p; s/^0 route.*/t/p; s/^0 cudaStreamWaitEvent/w/p
        s/^0 cudaStreamQuery/q/p' "$work/trace" | tr -d '\n'
}
moves() { # PATTERN TIMES options
    local pattern=$1 times=$2 found
    shift 2
    found=$(order "$@")
    [ "$(grep -oE "$pattern" <<<"$found" | wc -l)" -eq "$times" ]
    result $? "$*: expected $times of $pattern in $found"
}

# The GPU has its experts to run before anybody asks for the rows, and receives meanwhile; rows of
# allgather leave before they are routed; the second half leaves before the first comes back.
moves 's+[.]f+r+[.]q' 2
moves 'a[.]f+a[.]q' 2 --strategy padded
moves 'wb[.]tf+r+[.]q' 2 --strategy allgather
moves 's+[.]f+tws+[.]f+r+[.]q' 1 --overlap on

# Times on the GPU's clock, and bytes between rank 0 and each of the others: the same for both forms.
if [ "${EPMOE_NCCL_BLOCKING:-1}" = 1 ] && command -v python3 >/dev/null; then
    for strategy in exact padded allgather; do
        for overlap in off on; do
            "$epmoe" run -m tests/golden/models/moe-60 --tokens 1,2,3,4,5,6 -n 4 --temp 0 --ids -t 1 \
                --ignore-eos --device cuda "${nccl[@]}" --strategy $strategy --overlap $overlap \
                --profile-json "$work/profile" >/dev/null 2>"$work/stderr" &&
                python3 - "$work/profile" 2>"$work/stderr" <<'PY'
import json, sys
p = json.load(open(sys.argv[1]))
for kind in "prefill", "decode":
    s, x, b = p[kind], p[kind]["exchange"], p[kind]["bytes"]
    assert sum(s["phases"].values()) == s["ns"] > 0 and p["dropped_marks"] == 0, s
    assert x["exposed_ns"] == s["phases"]["wait_for_workers"] > 0 <= x["hidden_ns"], x
    assert sum(x["wait"].values()) == x["exposed_ns"], x
    assert s["phases"]["wire_out"] > 0 < s["phases"]["pack"], s
    assert sum(r["sent"] for r in b["ranks"]) == b["wire_sent"] > 0, b
    assert sum(r["received"] for r in b["ranks"]) == b["wire_received"] > 0, b
    assert all(r["sent"] > 0 for r in b["ranks"][1:]), b
PY
            result $? "$strategy, overlap $overlap: a profile's sums"
        done
    done
fi

expect 1 'an id for the run' EPMOE_EMULATED_FAIL=ncclGetUniqueId:1 "${nccl[@]}"
expect '1 4' 'NCCL: ' EPMOE_EMULATED_FAIL=ncclCommInitRankConfig:2 "${nccl[@]}"
expect '1 4' 'NCCL: ' EPMOE_EMULATED_FAIL=ncclCommInitRankConfig:5 "${nccl[@]}" --overlap on
# While ranks meet, each call of NCCL's waits for others: it ends when they never come, and at once
# when one of them has said why.
timeout=2
expect 4 'lost .*rank.* no progress for 2.0 s' EPMOE_EMULATED_LOSE=ncclSend:1 "${nccl[@]}"
expect 4 'lost .*rank.* no progress for 2.0 s' EPMOE_EMULATED_LOSE=ncclAlltoAll:2 "${nccl[@]}" --strategy padded
timeout=60
for call in ncclSend:1 ncclRecv:2 ncclLaunch@2:1; do
    expect '1 4' 'NCCL: .*unhandled' EPMOE_EMULATED_FAIL=$call "${nccl[@]}"
done
[ "${EPMOE_NCCL_BLOCKING:-1}" = 0 ] ||
    expect '1 4' 'NCCL: .*unhandled' EPMOE_EMULATED_FAIL=ncclCommSplit:2 "${nccl[@]}"

# A worker whose rows NCCL does not take says why, instead of that they are on their way.
for strategy in exact:5 padded:5 allgather:6; do # its last group of the step
    expect '1 4' 'rank 1 on .*NCCL: moving rows: unhandled cuda' \
        EPMOE_EMULATED_FAIL=ncclLaunch@1:${strategy#*:} "${nccl[@]}" --strategy ${strategy%:*}
done

for strategy in exact padded allgather; do
    case $strategy in
        exact) calls=(ncclSend:1 ncclSend:7 ncclRecv:8) lost=(ncclSend:5 ncclSend:8 ncclRecv:7) ;;
        padded) calls=(ncclAlltoAll:1 ncclAlltoAll:5) lost=(ncclAlltoAll:5 ncclAlltoAll:8) ;;
        allgather)
            calls=(ncclBroadcast:1 ncclBroadcast:5 ncclSend:6)
            lost=(ncclBroadcast:5 ncclSend:6)
            ;;
    esac
    how=("${nccl[@]}" --strategy $strategy)
    # A failed call ends the run at once: a rank that is slow to say so is not to be lost meanwhile.
    # 4: a rank was lost, or could not be ended in time
    timeout=20
    for call in "${calls[@]}" ncclAsync:2 ncclGroupStart:4 ncclGroupEnd:9; do
        expect '1 4' 'NCCL: ' EPMOE_EMULATED_FAIL="$call" "${how[@]}"
    done
    for call in cudaStreamQuery:1 cudaStreamQuery:14; do # a worker's: 4, rank 0's own: 1
        expect '1 4' 'GPU [0-2]: ' EPMOE_EMULATED_FAIL="$call" "${how[@]}"
    done
    timeout=2
    # While rank 0 waits for words, not for rows, it finds workers lost that wait for its rows.
    for call in ncclAsync:11 ncclAsync:17; do
        expect '1 4' 'NCCL: \|no progress for 2.0 s' EPMOE_EMULATED_FAIL="$call" "${how[@]}"
    done
    for call in "${lost[@]}"; do
        expect 4 'lost .*rank.* no progress for 2.0 s' EPMOE_EMULATED_LOSE="$call" "${how[@]}"
    done
    expect 4 'no progress for 2.0 s' EPMOE_EMULATED_LOSE="${lost[0]}" "${how[@]}" --overlap on
done
finish
