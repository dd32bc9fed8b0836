# Runs before the steps of tools/gpu_check.sh; sourced. Finds the programs, the libraries and the GPU, and
# exports the variables that tools/gpu_check/step.sh reads.

# The models and sizes that the steps run with.
choose_sizes() {
    preset=qwen1.5-moe-a2.7b layers=4 prompt=1500 generate=40 repeats=5
    ranks=5 ranks_model=models/austen-moe ranks_steps=8
    tiny='' tokens=160 text=48 rows=64 same_prompt=100 same_repeats=20 batch=8 batches=4,8,16,64 batch_prompt=256
    if [ -n "$quick" ]; then
        preset=tiny-moe layers=2 prompt=4 generate=1 repeats=1
        ranks=2 ranks_model=synth:tiny-moe ranks_steps=1
        tiny=--tiny tokens=3 text=1 rows=2 same_prompt=4 same_repeats=3 batch=2 batches=1,2 batch_prompt=2
    fi
    export quick preset layers prompt generate repeats ranks ranks_model ranks_steps tiny tokens text rows \
        same_prompt same_repeats batch batches batch_prompt
}

no_gpu() {
    echo "skipped: $1"
    exit 77
}

can_build() {
    pkg-config --exists jansson libpcre2-8 libutf8proc libprotobuf-c cmocka 2>/dev/null &&
        command -v mpicc protoc-c cmake >/dev/null
}

# Use the directory that was named; else the kit; else build, before the parts' seconds begin.
choose_binary() {
    [ -z "$binary" ] || return 0
    command -v nvidia-smi >/dev/null || no_gpu "no GPU found (no nvidia-smi), and no --binary"
    binary=$here/gpu_kit
    if [ ! -x "$binary/epmoe" ] && can_build; then
        binary=$here/build/gpu
        cmake -S . -B "$binary" -DCMAKE_BUILD_TYPE=Release -DEPMOE_CUDA=ON \
            -DCMAKE_CUDA_ARCHITECTURES=native -DCMAKE_CUDA_FLAGS=-lineinfo &&
            cmake --build "$binary" -j "$(nproc)" --target epmoe "${gpu_programs[@]}"
    fi
    [ -x "$binary/epmoe" ] || {
        echo "expected the libraries to build with, or $here/gpu_kit (made elsewhere by tools/gpu_kit.sh)" >&2
        exit 1
    }
}

# The folders of Python's packages that hold cuBLAS and NCCL.
python_libraries() {
    python3 - <<'PY' 2>/dev/null
import glob, os, sys
places = [p for at in sys.path for p in glob.glob(os.path.join(at, "nvidia", "*", "lib"))]
ours = ["libcublas.so.*", "libnccl.so.*"]
print(":".join(p for p in places if any(glob.glob(os.path.join(p, so)) for so in ours)))
PY
}

# Find libnccl.so.2, or unpack it from a kit's .xz. It comes first in the library path.
unpack_nccl() {
    [ -n "$nccl" ] || [ ! -d "$binary/nccl" ] || nccl=$binary/nccl
    [ -n "$nccl" ] && [ ! -e "$nccl/libnccl.so.2" ] && [ -e "$nccl/libnccl.so.2.xz" ] || return 0
    mkdir -p "$work/nccl"
    python3 -c 'import lzma, shutil, sys
shutil.copyfileobj(lzma.open(sys.argv[1]), open(sys.argv[2], "wb"), 1 << 24)' \
        "$nccl/libnccl.so.2.xz" "$work/nccl/libnccl.so.2" && nccl=$work/nccl
}

# The kit's libraries, then those that Python's packages bring, then CUDA's usual folder.
choose_libraries() {
    local found
    found=$(python_libraries)
    unpack_nccl
    library_path_before=${LD_LIBRARY_PATH:-}
    LD_LIBRARY_PATH=${nccl:+$nccl:}$binary/lib:${found:+$found:}${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}
    LD_LIBRARY_PATH+=/usr/local/cuda/lib64
    [ ! -x "$binary/bin/mpirun" ] || PATH=$binary/bin:$PATH
    PATH=$PATH:/usr/local/cuda/bin
    export LD_LIBRARY_PATH library_path_before PATH
}

# Try the smallest run on a GPU; if it fails, there is no GPU.
probe() {
    timeout 60 "$binary/epmoe" bench -m synth:tiny-moe --device cuda -p 4 -n 1 -r 1 >"$work/probe" 2>&1
    [ $? -eq 2 ] && grep -q 'expected a GPU\|build with CUDA' "$work/probe" &&
        no_gpu "$(tail -n 1 "$work/probe")"
}

# Folders for files that are removed after the check: on disk, and in memory if the system has such a
# folder.
choose_work() {
    work=$(mktemp -d)
    model=$work/model
    memory=$(mktemp -d -p /dev/shm 2>/dev/null) || memory=$(mktemp -d)
    trap 'rm -rf "$work" "$memory"' EXIT
    export work model memory
}

prepare() {
    choose_sizes
    choose_work
    choose_binary
    choose_libraries
    export here binary
    probe
}
