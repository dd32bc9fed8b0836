#!/usr/bin/env bash
# Replaces each program that tools/gpu_check.sh runs; links to it have the programs' names. In the steps
# that FAKE_BROKEN names it fails. It prints what programs would that a machine without a GPU lacks, and
# runs all others themselves: those of the build in FAKE_BINARY, the rest from the path FAKE_PATH.
name=$(basename "$0")
broken() {
    case ,${FAKE_BROKEN:-}, in *,${STEP:-none},*) return 0 ;; esac
    return 1
}

if [ "$name" = ldd ]; then
    broken && printf '\tlibnothing.so.9 => not found\n'
    PATH=$FAKE_PATH exec ldd "$@"
elif [[ $name = python3 && $* = *find_spec* ]]; then
    exit 0 # transformers is there
elif broken; then
    echo "broken on purpose"
    exit 66
fi

case $name in
nvidia-smi) echo "A GPU that is played, 0.0, 0 MiB, 0 MHz" ;;
compute-sanitizer)
    [ -z "${FAKE_HANG:-}" ] || sleep 30
    [ "$EPMOE_OWN_ALLOCATIONS" = 1 ] && echo "========= ERROR SUMMARY: 0 errors"
    ;;
ncu)
    while [ "$1" != --log-file ]; do shift; done
    cat >"$2" <<'CSV'
==PROF== Connected to process 1
"ID","Kernel Name","gpu__time_duration.sum","launch__registers_per_thread"
"","","us","register/thread"
"0","ffn_stream","12.5","80"
CSV
    ;;
python3)
    case "$*" in
    *gpu_peer.py*--show-tokens*) PATH=$FAKE_PATH exec python3 "$@" ;;
    *gpu_peer.py*) echo "transformers on a GPU that is played: prefill 1.0 ms, decode 1.0 tokens/s" ;;
    *) PATH=$FAKE_PATH exec python3 "$@" ;;
    esac
    ;;
gpu_ranks) # the emulation's NCCL knows ranks of one process only
    [ -z "${OMPI_COMM_WORLD_SIZE:-}" ] || exit 0
    exec "$FAKE_BINARY/tests/$name" "$@"
    ;;
test_marks) exec "$FAKE_BINARY/tests/$name" ;;
test_*) [ "$EPMOE_TEST_ONLY" = cuda ] ;; # ctest runs these by themselves
epmoe)
    [ -z "${FAKE_BROKEN:-}" ] || [ -n "${STEP:-}" ] || [ "$1" != bench ] || exit 0 # asks if there is a GPU
    # the loader must find the kit's NCCL, unpacked, before any other
    [ "${STEP:-}" != doctor ] || [ "$(cat "${LD_LIBRARY_PATH%%:*}/libnccl.so.2")" = played ] || exit 67
    case ${FAKE_LIE:-}:$* in yes:run*cuda*) echo 0 && exit ;; esac
    exec "$FAKE_BINARY/epmoe" "$@"
    ;;
*) exec "$FAKE_BINARY/tests/$name" "$@" ;;
esac
