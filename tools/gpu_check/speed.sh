# The steps of tools/gpu_check.sh --speed; sourced by step.sh.

workload() { # early_on, early_off, early_on_again
    case $1 in *off*) export EPMOE_EARLY=0 ;; esac
    bench -m "synth:$preset"
}

# Print the tables of a profile. It runs without CUDA graphs, so its tokens/s are not the workload's.
profiled_workload() {
    epmoe bench --device cuda -m "synth:$preset" -p "$prompt" -n "$generate" -r $(((repeats + 1) / 2)) --profile
}

# shellcheck disable=SC2086 # --tiny or nothing
phases() {
    program gpu_bench $tiny
}

# shellcheck disable=SC2086
variants() {
    program gpu_bench $tiny --variants
}

# Hardware counters of the kernels that take the most time; the whole table is in the logs.
counters() {
    local log=$logs/$STEP.csv kernels rc
    PATH=$PATH:$(echo /opt/nvidia/nsight-compute/* | tr ' ' :)
    command -v ncu >/dev/null || cannot "ncu is not installed"
    kernels=$(program gpu_bench --print-kernels) || wrong "expected the kernels' names, found $kernels"
    # shellcheck disable=SC2086
    ncu --csv --page raw --clock-control none --log-file "$log" --nvtx --nvtx-include "profiled/" \
        --kernel-name "regex:$kernels" --section SpeedOfLight --section LaunchStats --section Occupancy \
        --section MemoryWorkloadAnalysis --section WarpStateStats \
        "$binary/tests/gpu_bench" $tiny --profile-kernels
    rc=$?
    if grep -hE 'ERR_NVGPUCTRPERM|Failed to initialize the profiler' "$log" >"$work/refused"; then
        cannot "ncu: $(head -n 1 "$work/refused")"
    fi
    [ $rc -ne 0 ] || grep -q '^"0"' "$log" || wrong "expected counters of at least one kernel, found none"
    return $rc
}

batches() {
    prompt=$batch_prompt repeats=$(((repeats + 1) / 2))
    bench -m "synth:$preset" -b "$batches"
}

# shellcheck disable=SC2086
peer_speed() {
    peer -p "$prompt" -n "$generate" -r $(((repeats + 1) / 2)) $tiny
}

# Two ranks on one GPU, with each of the two forms of NCCL's communicator (transport/nccl.h).
nccl_workload() { # nccl_asking, nccl_blocking
    EPMOE_NCCL_BLOCKING=$([ "$1" = nccl_blocking ] && echo 1 || echo 0) \
        bench -m "synth:$preset:$layers" --ranks 2 --transport nccl
}

virtual_ranks() {
    repeats=$(((repeats + 1) / 2))
    bench -m "synth:$preset" --ranks "$ranks" --transport local
}

# Time loading the checkpoint to the GPU, from the page cache and from storage, and measure PCIe and
# storage by themselves.
loading() {
    local file=$model/model.safetensors
    # shellcheck disable=SC2086
    program gpu_bench $tiny --copies && load "from the page cache" && evict "$file" || return 1
    dd if="$file" of=/dev/null bs=16M count=64 2>&1 | tail -n 1 | sed 's/^/storage: /'
    evict "$file" && load "from storage"
}

load() { # from where
    epmoe bench -v -m "$model" --device cuda -p 4 -n 1 -r 1 2>&1 >/dev/null | sed "s/^/$1: /"
    return "${PIPESTATUS[0]}"
}

evict() { # file
    sync "$1"
    python3 -c 'import os, sys
os.posix_fadvise(os.open(sys.argv[1], os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)' "$1"
}
