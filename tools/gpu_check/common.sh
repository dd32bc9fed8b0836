# Functions for the steps of both parts of tools/gpu_check.sh; sourced by step.sh. A function that
# returns 77 cannot be done here; one that returns another code than 0 has failed.

# Several ranks share the GPU, which NCCL 2.30 can do if it is allowed to.
export NCCL_MULTI_RANK_GPU_ENABLE=1

# The last line of the log gives the reason.
cannot() {
    echo "$1"
    exit 77
}

wrong() {
    echo "gpu_check: $1"
    exit 1
}

# Run a program of the check, from the build directory or the kit that is used.
program() { # name arguments…
    [ -x "$binary/tests/$1" ] || wrong "expected $1 among the programs, found it not built"
    "$binary/tests/$1" "${@:2}"
}

epmoe() {
    "$binary/epmoe" "$@"
}

# Run epmoe bench on the GPU; tools/gpu_report.py reads its figures.
bench() { # options…
    epmoe bench --device cuda -p "$prompt" -n "$generate" -r "$repeats" -o json "$@" >"$logs/$STEP.json"
}

describe() {
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader ||
        wrong "expected nvidia-smi to name the GPU"
    nvcc --version 2>/dev/null | tail -n 2
    python3 -c 'import importlib.metadata as m, sys
print("Python", sys.version.split()[0])
for name in "torch", "transformers":
    try:
        print(name, m.version(name))
    except m.PackageNotFoundError:
        print(name, "is not installed")'
    epmoe --version
}

# Run gpu_peer.py without our library path, as transformers has libraries of its own.
peer() { # arguments of gpu_peer.py
    python3 -c 'import importlib.util as u, sys
sys.exit(not (u.find_spec("torch") and u.find_spec("transformers")))' ||
        cannot "Python has no torch and transformers"
    LD_LIBRARY_PATH=$library_path_before python3 tools/gpu_peer.py "$@"
}

# Token ids that every vocabulary has.
ids() { # how many
    python3 tools/gpu_peer.py --show-tokens "$1"
}

# Write a checkpoint of the real shape, 5.8 GB: to memory if there is room, else to disk.
make_checkpoint() { # memory, disk
    local free
    free=$(df --output=avail -k "$memory" | tail -n 1)
    [ "$1" = disk ] || [ "$free" -lt $((8 << 20)) ] || ln -s "$memory" "$model"
    epmoe synth --preset "$preset" --layers "$layers" -o "$model"
}
