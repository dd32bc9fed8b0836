#!/usr/bin/env bash
# What tools/gpu_check.sh needs on a GPU machine without MPI and without a package manager: epmoe
# and its GPU tests, built here for sm_80 and sm_90, with the small libraries they use. cuBLAS, NCCL and
# the driver are that machine's own. Take the folder there with the sources around it, or with tests/golden
# and models/austen-moe beside it.
#   tools/gpu_kit.sh [DIR]    (gpu_kit; replaced)
set -euo pipefail
cd "$(dirname "$0")/.."
source=$(pwd)
kit=${1:-gpu_kit}
tests=(test_kernels test_rows test_attention test_wire test_marks test_parity gpu_bench)
most_kib=$((40 * 1024))

# No path of this machine: not in messages, not in run paths, and the tests read from where they run.
# Each program has all kernels: compressed, they are half as large.
build() {
    local map="-ffile-prefix-map=$source/="
    cmake -S . -B build/kit -G Ninja -DCMAKE_BUILD_TYPE=Release -DEPMOE_CUDA=ON \
        -DCMAKE_SKIP_RPATH=ON -DEPMOE_TEST_ROOT=. \
        -DCMAKE_C_FLAGS="$map" -DCMAKE_CUDA_FLAGS="-Xcompiler=$map -Xfatbin=-compress-all"
    cmake --build build/kit --target epmoe "${tests[@]}"
}

# The shared libraries of the programs, but for the C library's and those of the driver and CUDA.
closure() {
    ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
        grep -vE '/(libc|libm|libpthread|libdl|librt|libresolv|libutil|libcuda|libcudart|libcublas|libcublasLt|libnccl)\.so'
}

build
rm -rf "$kit"
mkdir -p "$kit/tests" "$kit/lib"
install -s -t "$kit" build/kit/epmoe
for name in "${tests[@]}"; do
    install -s -t "$kit/tests" "build/kit/tests/$name"
done
mapfile -t libraries < <(closure "$kit/epmoe" "$kit"/tests/*)
install -m 644 -t "$kit/lib" "${libraries[@]}"

if grep -rlF "$source" "$kit"; then
    echo "gpu_kit: expected no path of this machine ($source), found it in the files above" >&2
    exit 1
fi
size=$(du -sk "$kit" | cut -f1)
if [ "$size" -gt $most_kib ]; then
    echo "gpu_kit: expected at most $most_kib KiB, found $size" >&2
    exit 1
fi
echo "$kit: $((size / 1024)) MiB, ${#libraries[@]} libraries"
