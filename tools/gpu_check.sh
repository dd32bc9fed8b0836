#!/usr/bin/env bash
# Everything that only a GPU can tell, in under nine minutes, as one report: device, kernel tests, where
# each microsecond of a layer goes, the reference workload on a model of full size whose weights are made
# there, virtual ranks, loading beside PCIe and storage, transformers on the same weights and on the full
# shape, if it is installed, and compute-sanitizer. No step stops the others.
#   tools/gpu_check.sh                   build here; where libraries are missing, take gpu_kit/
#   tools/gpu_check.sh --binary DIR      a build directory, or a kit of tools/gpu_kit.sh
#     --report FILE (gpu_report.md)   --seconds N (530), of all steps   --dry-run   print the plan
#     --quick: a tiny model and few tests, to try this script
# Needs driver and Python; nvcc and CMake to build. Exit: 0 all well, 1 a step failed, 77 no GPU.
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
report=gpu_report.md seconds=530 binary='' dry='' quick=''
while [ $# -gt 0 ]; do
    case $1 in
    --binary) binary=$2 && shift ;;
    --report) report=$2 && shift ;;
    --seconds) seconds=$2 && shift ;;
    --dry-run) dry=yes ;;
    --quick) quick=yes ;;
    *) sed -n '2,/^set/s/^# \?//p' "$0" | sed '$d' >&2 && exit 2 ;;
    esac
    shift
done
report=$(realpath -m "$report")
[ -z "$binary" ] || binary=$(realpath -m "$binary")
cd "$here" || exit 2

tests=(test_kernels test_rows test_attention test_wire test_marks test_parity)
sanitized=(test_kernels test_rows test_attention test_wire)
preset=qwen1.5-moe-a2.7b layers=4 size=(-p 1500 -n 40) ranks=5 tiny=() tokens=160 text=48 repeats=5
if [ -n "$quick" ]; then
    tests=(test_marks) sanitized=(test_marks)
    preset=tiny-moe layers=2 size=(-p 8 -n 2) ranks=3 tiny=(--tiny) tokens=24 text=2 repeats=1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
body=$work/body
summary=$work/summary
touch "$body" "$summary"
began=$SECONDS
failed=0

left() { echo $((seconds - (SECONDS - began))); }

note() { # step status seconds
    printf '| %s | %s | %s |\n' "$1" "$2" "$3" >>"$summary"
    printf '%-28s %s (%s s)\n' "$1" "$2" "$3"
    case $2 in failed* | "ran out of time") failed=1 ;; esac
}

# step NAME LIMIT COMMAND…: what it prints is part of the report, up to $lines (60) lines of it.
step() {
    local name=$1 limit=$2 start=$SECONDS rc
    shift 2
    if [ -n "$dry" ]; then
        printf '%-28s at most %3d s: %.150s\n' "$name" "$limit" "$*"
        return 0
    fi
    [ "$(left)" -lt "$limit" ] && limit=$(left)
    if [ "$limit" -lt 5 ]; then
        note "$name" "ran out of time" 0
        return 1
    fi
    timeout -k 5 "$limit" "$@" >"$work/log" 2>&1 </dev/null
    rc=$?
    case $rc in
    0) note "$name" ok $((SECONDS - start)) ;;
    77) note "$name" skipped $((SECONDS - start)) ;;
    124 | 137) note "$name" "failed: stopped after $limit s" $((SECONDS - start)) ;;
    *) note "$name" "failed: exit code $rc" $((SECONDS - start)) ;;
    esac
    {
        printf '\n## %s\n\n```\n' "$name"
        tr '\r' '\n' <"$work/log" | grep -v '^ *$' | tail -n "${lines:-60}" | cut -c1-300
        printf '```\n'
    } >>"$body"
    return $rc
}

# Where Python's packages keep cuBLAS and NCCL; what the kit brings; nothing else is needed.
find_libraries() {
    python3 - <<'PY' 2>/dev/null
import glob, os, sys
places = [p for at in sys.path for p in glob.glob(os.path.join(at, "nvidia", "*", "lib"))]
ours = ["libcublas.so.*", "libnccl.so.*"]
print(":".join(p for p in places if any(glob.glob(os.path.join(p, so)) for so in ours)))
PY
}

can_build() {
    pkg-config --exists jansson libpcre2-8 libutf8proc libprotobuf-c cmocka 2>/dev/null &&
        command -v mpicc protoc-c cmake >/dev/null
}

build() {
    cmake -S . -B build/gpu -DCMAKE_BUILD_TYPE=Release -DEPMOE_CUDA=ON \
        -DCMAKE_CUDA_ARCHITECTURES=native &&
        cmake --build build/gpu -j "$(nproc)" --target epmoe "$@"
}
export -f build

no_gpu() {
    echo "skipped: $1"
    exit 77
}

# What was named; or built here; or the kit.
choose_binary() {
    [ -z "$binary" ] || return 0
    [ -n "$dry" ] || command -v nvidia-smi >/dev/null || no_gpu "no GPU found (no nvidia-smi), and no --binary"
    binary=$here/gpu_kit
    if [ -n "$dry" ] || can_build; then
        step build 200 bash -c 'build "$@"' build "${tests[@]}" gpu_bench && binary=$here/build/gpu
    fi
    [ -n "$dry" ] || [ -x "$binary/epmoe" ] || {
        echo "expected the libraries to build with, or $binary (made elsewhere by tools/gpu_kit.sh)" >&2
        exit 1
    }
}

# The smallest run on a GPU: if it is refused, there is none.
probe() {
    timeout 60 "$binary/epmoe" bench -m synth:tiny-moe --device cuda -p 4 -n 1 -r 1 >"$work/probe" 2>&1
    [ $? -eq 2 ] && grep -q 'expected a GPU\|build with CUDA' "$work/probe" &&
        no_gpu "$(tail -n 1 "$work/probe")"
}

describe() {
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv 2>/dev/null ||
        echo "no nvidia-smi"
    nvcc --version 2>/dev/null | tail -n 2
    python3 -c 'import torch; print("PyTorch", torch.__version__)' 2>/dev/null
    "$binary/epmoe" --version
}

# Errors count, an early end does not: these take as long as they are given.
sanitize() { # seconds test
    timeout "$1" compute-sanitizer --error-exitcode 9 --print-limit 5 "$binary/tests/$2"
    local rc=$?
    [ $rc -ne 124 ] && return $rc
    echo "stopped after $1 s, as planned: no error until then"
}

# How fast a checkpoint comes to the GPU, from the page cache and then from storage, beside how fast
# PCIe and storage are.
loading() { # model [--tiny]
    local file=$1/model.safetensors
    load() {
        "$binary/epmoe" bench -v -m "$model" --device cuda -p 4 -n 1 -r 1 2>&1 >/dev/null |
            sed "s/^/$1: /"
        return "${PIPESTATUS[0]}"
    }
    evict() {
        sync "$file"
        python3 -c 'import os, sys
os.posix_fadvise(os.open(sys.argv[1], os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)' "$file"
    }
    local model=$1
    "$binary/tests/gpu_bench" --copies "${@:2}" && load "from the page cache" && evict || return 1
    dd if="$file" of=/dev/null bs=16M count=64 2>&1 | tail -n 1 | sed 's/^/storage: /'
    evict && load "from storage"
}

[ -n "$dry" ] && echo "plan, within $seconds s:"
choose_binary
if [ -z "$dry" ]; then
    libraries=$(find_libraries) before=${LD_LIBRARY_PATH:-}
    export LD_LIBRARY_PATH="$binary/lib:${libraries:+$libraries:}${LD_LIBRARY_PATH:-}"
    probe
fi
export -f describe sanitize loading
export binary

step device 20 bash -c describe
for name in "${tests[@]}"; do
    step "$name" 60 "$binary/tests/$name"
done
step "a text on the GPU" 30 "$binary/epmoe" run -m models/austen-moe --device cuda --temp 0 -n "$text" \
    -p "It is a truth universally acknowledged"
bench=("$binary/epmoe" bench -v --device cuda "${size[@]}")
step "workload" 60 "${bench[@]}" -m "synth:$preset" -r $repeats
step "workload, profiled" 50 "${bench[@]}" -m "synth:$preset" -r $(((repeats + 1) / 2)) --profile
lines=250 step "phases" 70 "$binary/tests/gpu_bench" "${tiny[@]}"
step "workload, $ranks ranks" 60 "${bench[@]}" -m "synth:$preset" -r $(((repeats + 1) / 2)) --ranks "$ranks"
if [ -z "$dry" ] && "$binary/epmoe" alltoall --help >/dev/null 2>&1; then
    step "all-to-all" 40 "$binary/epmoe" alltoall --device cuda --ranks "$ranks"
fi

# The same weights for all, in files; then speed on the full shape. transformers with its own libraries.
few=$work/model ids=$(python3 tools/gpu_peer.py --show-tokens "$tokens")
logits=("$binary/epmoe" logits -m "$few" --device cuda --tokens "$ids")
peer=(env LD_LIBRARY_PATH="${before:-}" python3 tools/gpu_peer.py "${size[@]}")
step "a checkpoint, $layers layers" 60 "$binary/epmoe" synth --preset "$preset" --layers "$layers" -o "$few"
step "loading" 60 bash -c 'loading "$@"' loading "$few" "${tiny[@]}"
step "workload, $layers layers" 40 "${bench[@]}" -m "$few" -r "$repeats"
step "logits, in one step" 30 "${logits[@]}" -o "$work/together"
step "logits, row by row" 40 "${logits[@]}" -o "$work/alone" --chunk 1
if [ -n "$dry" ] || python3 -c 'import torch, transformers' 2>/dev/null; then
    step "transformers, same weights" 100 "${peer[@]}" --model "$few" --tokens "$ids" \
        "epmoe, one step=$work/together" "epmoe, row by row=$work/alone"
    step "transformers, full shape" 90 "${peer[@]}" "${tiny[@]}"
fi
if [ -n "$dry" ] || command -v compute-sanitizer >/dev/null; then
    for name in "${sanitized[@]}"; do
        step "compute-sanitizer $name" 45 bash -c 'sanitize 34 "$0"' "$name"
    done
fi
[ -n "$dry" ] && exit 0

{
    echo "# GPU report"
    echo
    echo "$(date -u +%Y-%m-%d), $("$binary/epmoe" --version | head -n 1), $((SECONDS - began)) s in all."
    echo
    echo "| step | result | s |"
    echo "|---|---|--:|"
    cat "$summary" "$body"
} >"$report"
echo "report: $report"
exit $failed
