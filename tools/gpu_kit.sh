#!/usr/bin/env bash
# Makes a folder with what tools/gpu_check.sh needs on a GPU machine that has no MPI and no package
# manager: epmoe and all programs of the check, built here with line information for profilers, Open
# MPI's mpirun with its plugins, and the small libraries that they use. The GPU machine must have cuBLAS,
# the driver, and NCCL unless --nccl is given. Copy the folder there together with the sources.
#   tools/gpu_kit.sh [DIR]         (gpu_kit; replaced)
#     --nccl FOLDER                its libnccl.so.2 goes along, as gpu_kit/nccl/libnccl.so.2.xz
#     --architectures LIST         machine code for these (80-real;90-real)
# As root it then runs 3 ranks of the kit in a root directory without Open MPI (tools/gpu_check/prove_kit.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/gpu_check/plan.sh
source=$(pwd)
kit=gpu_kit nccl='' architectures='80-real;90-real'
most_kib=$((40 * 1024)) # without NCCL
while [ $# -gt 0 ]; do
    case $1 in
    --nccl) nccl=$2 && shift ;;
    --architectures) architectures=$2 && shift ;;
    -*) sed -n '2,/^set/s/^# \?//p' "$0" | sed '$d' >&2 && exit 2 ;;
    *) kit=$1 ;;
    esac
    shift
done
case $kit in / | . | .. | "$source") echo "gpu_kit: expected a folder of its own, found $kit" >&2 && exit 2 ;; esac

# Messages, run paths and line information must not contain paths of this machine, and tests must find
# their files from the folder they run in. Each program contains all kernels, so they are compressed as
# much as nvcc can. The C++ library is linked statically: a shared one in the kit would replace the newer
# one that the machine's own tools need.
build() {
    local map="-ffile-prefix-map=$source/="
    cmake -S . -B build/kit -G Ninja -DCMAKE_BUILD_TYPE=Release -DEPMOE_CUDA=ON -DEPMOE_NCCL=ON \
        -DCMAKE_CUDA_ARCHITECTURES="$architectures" -DCMAKE_SKIP_RPATH=ON -DEPMOE_TEST_ROOT=. \
        -DCMAKE_C_FLAGS="$map" -DCMAKE_CUDA_COMPILER_LAUNCHER="$source/tools/gpu_check/relative_paths.sh;$source" \
        -DCMAKE_EXE_LINKER_FLAGS="-static-libstdc++ -static-libgcc" \
        -DCMAKE_CUDA_FLAGS="-lineinfo -Xcompiler=$map --compress-mode=size"
    cmake --build build/kit --target epmoe "${gpu_programs[@]}"
}

# The shared libraries that files need, except those of the C library, of the driver, CUDA and NCCL, and
# the C++ library, which only the latter need.
closure() {
    ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
        grep -vE '/(libc|libm|libpthread|libdl|librt|libresolv|libutil|libcuda|libcudart|libcublas|libcublasLt|libnccl|libstdc\+\+|libgcc_s)\.so'
}

# -s strips the host's symbols; the kernels' line information lies in a section that stays.
copy_programs() {
    install -s -t "$kit" build/kit/epmoe
    for name in "${gpu_programs[@]}"; do
        install -s -t "$kit/tests" "build/kit/tests/$name"
    done
}

# Print the path of one of Open MPI's folders here.
mpi_path() {
    ompi_info --parsable --path "$1" | cut -d: -f3
}

# Copy mpirun, orted, and the plugins that need no further libraries. The other plugins are for InfiniBand,
# Slurm and the like.
copy_mpi() {
    local plugin known needs pmix
    mkdir -p "$kit"/mpi/{bin,plugins,share,etc,pmix}
    install -s "$(readlink -f "$(command -v mpirun)")" "$kit/mpi/bin/mpirun"
    install -s -t "$kit/mpi/bin" "$(command -v orted)"
    cp "$(mpi_path pkgdatadir)"/*.txt "$kit/mpi/share"
    cp "$(mpi_path sysconfdir)/openmpi-mca-params.conf" "$kit/mpi/etc"
    pmix=$(dirname "$(ldd "$(mpi_path pkglibdir)/mca_pmix_ext3x.so" | awk '$1 ~ /^libpmix/ { print $3 }' | xargs readlink -f)")
    install -s -m 644 -t "$kit/mpi/pmix" "$pmix/pmix/pmix_mca_pcompress_zlib.so"
    cp "$pmix/../share/pmix"/help-*.txt "$kit/mpi/share"
    known=$(closure "$kit/epmoe" "$kit"/mpi/bin/* "$(mpi_path pkglibdir)/mca_pmix_ext3x.so")
    for plugin in "$(mpi_path pkglibdir)"/mca_*.so; do
        needs=$(closure "$plugin" || true)
        [ -n "$(comm -23 <(echo "$needs") <(echo "$known"))" ] || install -s -m 644 -t "$kit/mpi/plugins" "$plugin"
    done
    [ -e "$kit/mpi/plugins/mca_pmix_ext3x.so" ]
    cp tools/gpu_check/mpirun "$kit/bin/mpirun"
}

copy_libraries() {
    local libraries
    mapfile -t libraries < <(closure "$kit/epmoe" "$kit"/tests/* "$kit"/mpi/bin/* "$kit"/mpi/plugins/*)
    install -s -m 644 -t "$kit/lib" "${libraries[@]}"
}

refuse_paths() {
    if grep -rlF "$source" "$kit"; then
        echo "gpu_kit: expected no path of this machine ($source), found it in the files above" >&2
        exit 1
    fi
}

refuse_size() {
    local size
    size=$(du -sk --apparent-size "$kit" | cut -f1)
    echo "$kit: $((size / 1024)) MiB"
    if [ "$size" -gt $most_kib ]; then
        echo "gpu_kit: expected at most $most_kib KiB, found $size; --architectures 90-real makes a smaller one" >&2
        exit 1
    fi
}

copy_nccl() {
    mkdir "$kit/nccl"
    xz -T 0 -6 -c "$nccl/libnccl.so.2" >"$kit/nccl/libnccl.so.2.xz"
    echo "$kit/nccl: $(($(stat -c %s "$kit/nccl/libnccl.so.2.xz") >> 20)) MiB"
}

[ -z "$nccl" ] || [ -f "$nccl/libnccl.so.2" ] || {
    echo "gpu_kit: expected $nccl/libnccl.so.2, found none" >&2
    exit 2
}
build
rm -rf "$kit"
mkdir -p "$kit"/{tests,lib,bin}
copy_programs
copy_mpi
copy_libraries
refuse_paths
refuse_size
[ -z "$nccl" ] || copy_nccl
tools/gpu_check/prove_kit.sh "$kit"
