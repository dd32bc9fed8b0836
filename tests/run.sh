#!/usr/bin/env bash
# All tests: the rules of the source, a release build with warnings as errors, the same under
# AddressSanitizer and UBSan, a build of plain C alone, ranks as threads under ThreadSanitizer,
# the GPU's path on an emulated GPU, and there its kernels once more, looking for races. The first proves
# results on all combinations, the others walk every code path (docs/testing.md).
#   tests/run.sh            everything
#   tests/run.sh ci         one preset only (ci, asan, plain, tsan, emulated, races, or cuda)
set -euo pipefail
cd "$(dirname "$0")/.."

# Before anything is installed or built: was the call meant?
for preset in "$@"; do
    case $preset in
    ci | asan | plain | tsan | emulated | races | cuda) ;;
    -h | --help)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
        exit
        ;;
    *)
        echo "run.sh: expected a preset (ci, asan, plain, tsan, emulated, races, cuda), found \"$preset\"" >&2
        exit 2
        ;;
    esac
done

launch/install.sh --tests
# the tests use more threads and ranks than there are cores: waiting must not spin
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
presets=("$@")
[ ${#presets[@]} -gt 0 ] || presets=(ci asan plain tsan emulated races)
for preset in "${presets[@]}"; do
    echo "== $preset: configure and build"
    cmake --preset "$preset" >/dev/null
    cmake --build --preset "$preset" -- -k 0 | tail -n 1
    echo "== $preset: test"
    settled=()
    if [ "$preset" = tsan ]; then # gcc 12's does not start where the kernel scatters addresses widely
        ! setarch -R true 2>/dev/null || settled=(setarch -R)
        "${settled[@]}" build/tsan/epmoe --version >/dev/null || {
            echo "== tsan: skipped: ThreadSanitizer does not start on this kernel"
            continue
        }
    fi
    "${settled[@]}" ctest --preset "$preset" -j "$((3 * $(nproc)))"
done
