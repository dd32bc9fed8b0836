#!/usr/bin/env bash
# Builds sgemm.c and experts.c with the kernels of a build directory.
#   tools/peers/build.sh build/release /tmp/peers       # makes /tmp/peers/sgemm and /tmp/peers/experts
# sgemm needs OpenBLAS (Debian: libopenblas-dev); without it only experts is built.
set -euo pipefail
[ $# -eq 2 ] || {
    sed -n '2,4s/^# //p' "$0"
    exit 2
}
from=$(realpath "$1")
mkdir -p "$2"
to=$(realpath "$2")
cd "$(dirname "$0")/../.."
common=(-std=gnu11 -O2 -Wall -Wextra -Wconversion -I. "$from/kernels/libkernels.a" "$from/libbase.a" -fopenmp -lm)
compile() { # program, options after the libraries
    "${CC:-cc}" "tools/peers/$1.c" -o "$to/$1" "${common[@]}" "${@:2}"
    echo "$to/$1"
}
compile experts
if echo '#include <cblas.h>' | "${CC:-cc}" -E - >/dev/null 2>&1; then
    compile sgemm -lopenblas
else
    echo "no cblas.h: sgemm is not built (Debian: apt install libopenblas-dev)"
fi
