#!/usr/bin/env bash
# The program on an emulated GPU, from outside: the processor's tokens, one line for each thing that
# is wrong, and a model that does not fit refused with the sum.
#   tests/gpu/device.sh build/emulated/epmoe
. "$(dirname "$0")/../rig/begin.sh"
model=tests/golden/models/moe-60
ids() { timeout 300 "$epmoe" run -m $model --tokens 3,14,15,92,65 -n 12 --temp 0 --ignore-eos --ids "$@" 2>"$work/stderr"; }

ids --device cpu >"$work/cpu" && [ "$(wc -w <"$work/cpu")" -eq 12 ]
result $? "on the processor: $(cat "$work/stderr")"
# 12 tokens: the decode step is run, recorded and then played
while read -r options; do
    # shellcheck disable=SC2086
    ids $options >"$work/gpu" && cmp -s "$work/gpu" "$work/cpu"
    result $? "$options differs: $(cat "$work/stderr")"
done <<'CASES'
--device cuda
--device cuda --chunk 2
--device cuda --ranks 3
--device cuda --worker-device cpu --ranks 3 --home 20
--device cpu --worker-device cuda --ranks 2
--device cuda --worker-device cpu --ranks 4 --strategy padded --overlap on
--device cuda --ranks 2 --strategy allgather --home 7
CASES

# What computes, at the end of a run and of a batch.
"$epmoe" run -m models/austen-moe --device cuda -p Emma -n 1 >"$work/stdout" 2>"$work/stderr" &&
    grep -q '| cuda, 1 rank$' "$work/stderr"
result $? "expected \"cuda, 1 rank\" in the summary of a run, found: $(cat "$work/stderr")"
echo '{"id": "a", "prompt": "Emma", "max_tokens": 1}' >"$work/requests"
"$epmoe" batch -m models/austen-moe --device cuda -i "$work/requests" -o "$work/results" >"$work/stdout" 2>"$work/stderr" &&
    grep -q '| cuda, 1 rank$' "$work/stderr"
result $? "expected \"cuda, 1 rank\" in the summary of a batch, found: $(cat "$work/stderr")"

# Weights of 8 and 4 bits: the same bytes of logits however many ranks there are, however experts lie,
# and whether weights are quantised at load or were before; and nearly those of the processor.
logits() { # file, MODEL, options…
    timeout 300 "$epmoe" logits --tokens 3,14,15,92,65,35,8,9,7 -o "$work/$1" -m "${@:2}" 2>"$work/stderr"
}
near() { # file, file: of f32, alike within 2 % of their range?
    python3 - "$work/$1" "$work/$2" <<'PY'
import json, struct, sys
def read(path):
    data = open(path, "rb").read()
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    tensor = json.loads(data[8:begin])["logits"]
    first, end = tensor["data_offsets"]
    return struct.unpack(f"<{(end - first) // 4}f", data[begin + first:begin + end])
a, b = read(sys.argv[1]), read(sys.argv[2])
worst = max(abs(x - y) for x, y in zip(a, b, strict=True)) / (max(b) - min(b))
print(f"{worst:.2g} of the range")
sys.exit(not worst < 0.02)
PY
}
python3 - $model/config.json >"$work/odd.json" <<'PY'
import json, sys
config = json.load(open(sys.argv[1]))
layers, experts = config["num_hidden_layers"], config["num_experts"]
print(json.dumps({"ranks": 3, "layers": [[e % 3 for e in range(experts)]] * layers,
                  "outputs": [7, config["vocab_size"] - 30, 23]}))
PY
while read -r kind; do
    # shellcheck disable=SC2086
    {
        logits wanted $model $kind --device cuda
        result $? "logits $kind: $(cat "$work/stderr")"
        logits cpu $model $kind && near wanted cpu >"$work/worst"
        result $? "logits $kind on the GPU and on the processor differ by $(cat "$work/worst")"
        logits mixed $model $kind --worker-device cuda --ranks 2 && near mixed cpu >"$work/worst"
        result $? "logits $kind with a worker's GPU differ by $(cat "$work/worst")"
        "$epmoe" quantize -m $model $kind -o "$work/packed" 2>"$work/stderr"
        result $? "quantize $kind"
    }
    while read -r source options; do
        # shellcheck disable=SC2086
        logits found $source $options && cmp -s "$work/wanted" "$work/found"
        result $? "$source $options: other bytes than $kind --device cuda: $(cat "$work/stderr")"
    done <<WAYS
$model $kind --device cuda --ranks 3
$model $kind --device cuda --ranks 2 --home 7 --strategy padded --overlap on
$work/packed --device cuda
$work/packed --device cuda --ranks 3
$work/packed --device cuda --ranks 3 --placement $work/odd.json
WAYS
    rm -r "$work/packed"
done <<'KINDS'
--dtype q8
--dtype q4
--expert-dtype q8
KINDS

refused() { # exit codes, text of the one line, environment, options…
    local code=$1 text=$2 setting=$3 found
    shift 3
    env "$setting" timeout 300 "$epmoe" run -m $model --tokens 3,14 -n 12 --ignore-eos --ids --temp 0 \
        "$@" >"$work/stdout" 2>"$work/stderr"
    found=$?
    [[ " $code " == *" $found "* ]] && [ "$(grep -vc "knows positions up to" "$work/stderr")" -eq 1 ] && grep -q -- "$text" "$work/stderr"
    result $? "$setting $*: expected exit $code and \"$text\", found $found and: $(cat "$work/stderr")"
}
refused 2 'no GPU found' EPMOE_EMULATED_GPUS=0 --device cuda
refused 2 'EPMOE_EARLY: expected 0 or 1, found off' EPMOE_EARLY=off --device cuda
refused 2 'EPMOE_EARLY: expected 0 or 1, found off' EPMOE_EARLY=off --device cuda --ranks 2
refused 2 'EPMOE_OWN_ALLOCATIONS: expected 0 or 1, found yes' EPMOE_OWN_ALLOCATIONS=yes --device cuda
refused 1 'GiB free: --device cpu' EPMOE_EMULATED_GPU_MEMORY=200000000 --device cuda
refused 1 'KV cache of .* -c [0-9]* would fit' EPMOE_EMULATED_GPU_MEMORY=400000000 --device cuda -c 1000000
refused 1 'GPU 0: allocating .* MB more' EPMOE_EMULATED_FAIL=cudaMalloc:9 --device cuda
refused 1 'GPU 0: playing a graph' EPMOE_EMULATED_FAIL=cudaGraphLaunch:2 --device cuda
refused 1 'GPU 0: computing' EPMOE_EMULATED_FAIL=cudaStreamSynchronize:9 --device cuda
# whichever rank copies then: rank 0 ends with 1, and a worker's rank is lost
refused '1 4' 'GPU ' EPMOE_EMULATED_FAIL=cudaMemcpyAsync:40 --device cuda --ranks 2

# What a decode step launches: docs/gpu.md says so. Steps of one row, 2 layers.
launched() { # tokens, file
    EPMOE_EMULATED_LAUNCHES=$2 timeout 300 "$epmoe" run -m $model --tokens 3,14,15,92,65 -n "$1" \
        --temp 0 --ignore-eos --ids --device cuda >"$work/stdout" 2>"$work/stderr"
}
launched 12 "$work/few" && launched 22 "$work/many"
result $? "counting launches: $(cat "$work/stderr")"
awk 'NR == FNR { n[$2] = $1; next } { printf "%s %g\n", $2, ($1 - n[$2]) / 10 }' "$work/few" "$work/many" |
    awk '$2 > 0' >"$work/step"
diff "$work/step" - >"$work/stdout" <<'STEP'
add_norm 6
add_seen 1
decode_split 2
dense_stream 7
embed 1
ffn_stream 4
gather 1
rope_append 2
route_sort 2
top 1
STEP
result $? "launches of a step: $(cat "$work/stdout")"

# Ranks of one process that share a GPU load all kernels at the start: CUDA is told so before its first call.
while read -r command; do
    # shellcheck disable=SC2086
    env -u CUDA_MODULE_LOADING EPMOE_EMULATED_NCCL=2.30.0 NCCL_MULTI_RANK_GPU_ENABLE=1 EPMOE_EMULATED_TRACE="$work/trace" \
        timeout 300 "$(dirname "$epmoe")"/$command -m synth:tiny-moe:1 --ranks 2 >"$work/stdout" 2>"$work/stderr"
    head -n 1 "$work/trace" | grep -qx '0 CUDA_MODULE_LOADING=EAGER'
    result $? "$command: expected CUDA_MODULE_LOADING=EAGER before any call, found $(head -n 1 "$work/trace")"
done <<'SHARING'
epmoe run --device cuda --transport nccl --tokens 1 -n 1 --ids
tests/gpu_ranks --rows 2 --steps 1
SHARING

# The roof is rank 0's device; workers on another are named, and whose memory is told.
while read -r text options; do
    # shellcheck disable=SC2086
    timeout 300 "$epmoe" bench -m synth:tiny-moe:1 --ranks 2 -p 2 -n 1 -r 1 $options >"$work/stdout" 2>"$work/stderr"
    grep -qx "workers compute on $text, which the roof leaves out" "$work/stdout" &&
        grep -q "^loaded in .*, peak memory .* GB (the host's)$" "$work/stdout"
    result $? "bench $options: expected workers on $text, found: $(cat "$work/stdout" "$work/stderr")"
done <<'WORKERS'
GPUs --worker-device cuda
processors --device cuda --worker-device cpu
WORKERS

# Decode of several batches, each beside its roof; times mean nothing here.
timeout 300 "$epmoe" bench -m synth:tiny-moe --device cuda -p 4 -n 2 -r 1 -b 4,8,16,64 -o csv \
    >"$work/bench" 2>"$work/stderr"
result $? "bench of four batches: $(cat "$work/stderr")"
awk -F, '$1 == "tg2" && $4 > 0 && $8 > 0 && $9 ~ /^(bytes|flops)$/ { print $2 }' "$work/bench" | paste -sd, |
    grep -qx 4,8,16,64
result $? "expected decode tokens/s and a roof of batch 4, 8, 16 and 64, found: $(cat "$work/bench")"

EPMOE_EMULATED_GPUS=0 "$epmoe" doctor | grep -qE '^missing +CUDA +built for sm_80 sm_90; no GPU found'
result $? "doctor without a GPU"
# A GPU that is there but cannot be used: CUDA's own reason, not "no GPU" alone.
EPMOE_EMULATED_GPUS=0 EPMOE_EMULATED_NO_GPU=35 "$epmoe" doctor |
    grep -qE '^missing +CUDA +built for sm_80 sm_90; no GPU found \(CUDA driver version is insufficient'
result $? "doctor with a driver that is too old"
EPMOE_EMULATED_FAIL=cudaGetDeviceProperties:1 "$epmoe" doctor |
    grep -qE '^ok +CUDA +built for sm_80 sm_90; GPU 0: cannot be used: unknown error; '
result $? "doctor with a GPU that does not answer once"
EPMOE_EMULATED_GPUS=9 "$epmoe" bench -m synth:tiny-moe:1 --device cuda -p 2 -n 1 -r 1 2>"$work/stderr" |
    grep -qF 'built for sm_80 sm_90; GPUs 0 to 8: emulated, sm_90, 4.0 GiB; '
result $? "bench where there are nine GPUs: $(cat "$work/stderr")"
"$epmoe" doctor | grep -qE '^ok +CUDA +built for .*GPU 0: emulated'
result $? "doctor with a GPU"
finish
