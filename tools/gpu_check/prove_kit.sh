#!/usr/bin/env bash
# Checks that a kit's mpirun runs without an installed Open MPI: in a root directory with only the C
# library, a shell and the kit, three ranks must print what one process prints. Needs root, and Linux.
#   tools/gpu_check/prove_kit.sh gpu_kit
set -euo pipefail
kit=$(realpath "$1")
cd "$(dirname "$0")/../.."
if ! unshare --mount --pid --fork true 2>/dev/null; then
    echo "gpu_kit: its mpirun was not tried, since nobody but root can change the root directory"
    exit 0
fi
root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT

# Copy programs and the libraries they need, to the same paths in the new root.
bring() {
    local file
    for file in "$@" $(ldd "$@" | grep -oE '/[^ ]+ \(' | tr -d '('); do
        install -D "$(readlink -f "$file")" "$root$file"
    done
}

# Copy what the kit expects on the machine: CUDA's libraries and NCCL, and the C++ library they need.
cuda_libraries() {
    ldd "$kit/epmoe" | awk '$2 == "=>" && $1 ~ /^lib(cuda|cudart|cublas|cublasLt|nccl|stdc\+\+|gcc_s)\.so/ { print $3 }'
}

fill_root() {
    local file
    mkdir -p "$root"/{bin,tmp,proc,sys,dev,cuda,here/models}
    bring /bin/bash /bin/sh $(for tool in env cat mktemp mkfifo sleep rm dirname tr; do command -v $tool; done)
    bring $(ldconfig -p | awk '/lib(m|dl|rt|pthread|util|resolv)\.so\.[0-9].*x86-64/ { print $NF }')
    cp -r "$kit" "$root/here/gpu_kit"
    cp -r launch "$root/here/launch"
    cp -r models/austen-moe "$root/here/models/austen-moe"
    for file in $(cuda_libraries); do
        touch "$root/cuda/$(basename "$file")"
        echo "$(readlink -f "$file") $root/cuda/$(basename "$file")"
    done >"$root/tmp/mounts"
}

# In the new root: check that there is no Open MPI, then run one process and three ranks.
inside='
set -eu
cd /here
export PATH=/here/gpu_kit/bin:$PATH LD_LIBRARY_PATH=/here/gpu_kit/lib:/cuda
[ "$(command -v mpirun)" = /here/gpu_kit/bin/mpirun ]
run="gpu_kit/epmoe run -m models/austen-moe --temp 0 -q -t 1 -n 12 -p Emma"
one=$($run)
three=$(launch/mpirun.sh -n 3 $run)
[ "$one" = "$three" ] || { echo "expected of 3 ranks \"$one\", found \"$three\""; exit 1; }
echo "3 ranks without Open MPI installed: \"$three\""
'
fill_root
export root inside
timeout 120 unshare --mount --pid --fork bash -c '
    while read -r from to; do mount --bind "$from" "$to"; done <"$root/tmp/mounts"
    mount --rbind /dev "$root/dev" && mount -t proc proc "$root/proc" && mount -t sysfs -o ro sys "$root/sys"
    exec chroot "$root" /bin/bash -c "$inside"' || {
    echo "gpu_kit: expected 3 ranks to run without Open MPI installed, found the above" >&2
    exit 1
}
