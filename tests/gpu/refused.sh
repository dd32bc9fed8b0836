#!/usr/bin/env bash
# Launches that CUDA refuses, on emulated GPUs: every one of a step, by itself and while the step is
# recorded, and some of every kernel. The run ends with one line that names the kernel, and with exit
# code 1; where the GPU is a worker's, with 4: its rank is lost.
#   tests/gpu/refused.sh build/emulated/epmoe build/emulated/tests/gpu_bench
bench=$(realpath "$2")
. "$(dirname "$0")/../rig/begin.sh"
models=tests/golden/models

refused() { # exit codes, kernel, which call of which name, command…
    local codes=$1 kernel=$2 call=$3 code
    shift 3
    EPMOE_EMULATED_FAIL=$call:209 EPMOE_EMULATED_TRACE=$work/trace timeout 100 "$@" </dev/null \
        >/dev/null 2>"$work/stderr"
    code=$?
    grep '^epmoe: ' "$work/stderr" >"$work/lines"
    [[ " $codes " == *" $code "* ]] && [ "$(wc -l <"$work/lines")" -eq 1 ] &&
        grep -qE "GPU [0-9]: launching $kernel(<.*>)? \(grid .*\): no kernel image" "$work/lines"
    result $? "$call in $*: expected exit $codes and one line about $kernel, found $code"
}

# Tokens that follow one are the same step, call by call, recorded and played.
step=("$epmoe" run -m $models/moe-published --tokens 3 -n 3 --temp 0 --ignore-eos --ids -t 1
    --device cuda)
EPMOE_EMULATED_TRACE=$work/trace "${step[@]}" >/dev/null 2>"$work/stderr"
result $? "a step"
# number of the launch, kernel, by itself or recorded: two steps of them
awk '$2 == "cudaStreamBeginCapture" { how = "recorded" }
    $2 == "cudaStreamEndCapture" { exit }
    $2 == "cudaLaunchKernel" { n++; getline; sub(/[<(].*/, "", $2)
        if ($2 == "embed" && !how) how = "alone"
        if (how) print n, $2, how }' "$work/trace" >"$work/launches"
[ "$(grep -c alone "$work/launches")" -ge 20 ] && [ "$(grep -c recorded "$work/launches")" -ge 20 ]
result $? "launches of a step: $(cat "$work/launches")"
while read -r n kernel how; do
    refused 1 "$kernel" "cudaLaunchKernel:$n" "${step[@]}"
    [ "$how" = alone ] || ! grep -qE 'cudaGraphInstantiate|cudaGraphLaunch' "$work/trace"
    result $? "a graph without launch $n, of $kernel, was kept"
done <"$work/launches"

# The first and the last launch of each kernel that a command launches, unless it was tried before.
touch "$work/tried"
each_kernel() { # exit codes, command…
    local codes=$1 times kernel
    shift
    EPMOE_EMULATED_LAUNCHES=$work/counts timeout 100 "$@" >/dev/null 2>"$work/stderr"
    result $? "$*"
    while read -r times kernel; do
        grep -qx "$kernel" "$work/tried" && continue
        echo "$kernel" >>"$work/tried"
        refused "$codes" "$kernel" "$kernel:1" "$@"
        [ "$times" -eq 1 ] || refused "$codes" "$kernel" "$kernel:$times" "$@"
    done <"$work/counts"
}
tokens=$(seq -s, 1 40) # more than the joint kernels take
each_kernel 1 "$epmoe" run -m $models/moe-head-dim --tokens "$tokens" -n 2 --temp 0 --ids \
    --ignore-eos --repeat-penalty 1.1 -t 1 --device cuda
each_kernel 1 "$epmoe" run -m synth:tiny-moe:1 --tokens 1 -n 1 --temp 0 --ids -t 1 --device cuda
each_kernel 1 "$epmoe" run -m $models/moe-head-dim --tokens 1,2,3 -n 2 --temp 0 --ids --ignore-eos \
    -t 1 --device cuda --dtype q8
# Only bench measures the roof. Its other kernels were tried above: most of its launches replay a recorded step,
# and the emulation refuses none of those.
each_kernel 1 "$epmoe" bench -m synth:tiny-moe:1 -p 4 -n 2 -r 1 -t 1 --device cuda --dtype q8

# By NCCL all ranks launch; what is refused to a worker after its last layer counts, too.
export EPMOE_EMULATED_GPUS=3
for strategy in exact padded allgather; do
    nccl=("$epmoe" logits -m $models/moe-published --tokens 1,2,3 -t 1 -o "$work/logits"
        --device cuda --ranks 3 --transport nccl --timeout 10 --strategy $strategy)
    sed -i '/gather\|narrow\|widen\|sum_rows/d' "$work/tried"
    each_kernel '1 4' "${nccl[@]}" --wire int8
    each_kernel '1 4' "${nccl[@]}" --combine sum
done

# What only measures.
launched() { # the kernels that sources launch
    cat "$@" | tr '\n' ' ' | grep -oE 'LAUNCH(_EARLY|_WIRE)?\([^(),]+, *\(?[a-z][a-z_]*' |
        sed 's/.*[ (]//' | grep -vx kernel | sort -u
}
for kernel in $(launched kernels/cuda/roof.cu tests/gpu/bench/*.cu | grep -vxFf "$work/tried"); do
    echo "$kernel" >>"$work/tried"
    refused 1 "$kernel" "$kernel:1" "$bench" --tiny
done

left=$(launched kernels/cuda/*.cu | grep -vxFf "$work/tried")
[ -z "$left" ]
result $? "kernels that were refused nowhere: $left"
finish
