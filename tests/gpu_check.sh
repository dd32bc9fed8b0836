#!/usr/bin/env bash
# tools/gpu_check.sh, as far as a build without a GPU goes: on the emulation its steps run on a tiny
# model, and a step that fails is told without stopping the others; elsewhere it skips. The roofs in
# docs/gpu.md are those that tools/gpu_roofs.py prints.
#   tests/gpu_check.sh build/emulated/epmoe
set -uo pipefail
binary=$(dirname "$(realpath "$1")")
cd "$(dirname "$0")/.."
command -v python3 >/dev/null || {
    echo "skipped: no python3"
    exit 77
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
wrong() {
    echo "gpu_check: $1"
    failed=1
}

sed -n '/^<!-- roofs -->$/,/^<!-- end of roofs -->$/p' docs/gpu.md | sed '1d;$d' >"$work/told"
python3 tools/gpu_roofs.py | diff - "$work/told" || wrong "docs/gpu.md: other roofs than tools/gpu_roofs.py"
sed -n '/^<!-- streams -->$/,/^<!-- end of streams -->$/p' docs/gpu.md | sed '1d;$d' >"$work/told"
python3 tools/gpu_streams.py | diff - "$work/told" || wrong "docs/gpu.md: other streams than tools/gpu_streams.py"
tools/gpu_check.sh --dry-run | grep '^workload ' >/dev/null || wrong "no plan"

tools/gpu_check.sh --binary "$binary" --quick --report "$work/report.md" >"$work/out" 2>&1
status=$?
if [ $status -eq 77 ]; then
    grep -q '^skipped: .*expected a' "$work/out" || wrong "skips without a reason"
    [ ! -e "$work/report.md" ] || wrong "a report of nothing"
    exit $failed
fi
[ $status -eq 0 ] || wrong "exit code $status: $(cat "$work/out")"
for name in device test_marks "a text on the GPU" workload "workload, profiled" "workload, 3 ranks" \
    phases "a checkpoint, 2 layers" loading "workload, 2 layers" "logits, in one step" "logits, row by row"; do
    grep -q "^| $name | ok |" "$work/report.md" || wrong "$name is not ok in the report"
done
grep -q '^decode: ' "$work/report.md" || wrong "no profile in the report"
grep -q '^| cuBLAS grouped | [0-9]' "$work/report.md" || wrong "no phases in the report"
grep -q '^from storage: .*/s$' "$work/report.md" || wrong "no speed of loading in the report"

# a kit whose test fails
mkdir -p "$work/kit/tests"
ln -s "$binary/epmoe" "$work/kit/epmoe"
ln -s /bin/false "$work/kit/tests/test_marks"
tools/gpu_check.sh --binary "$work/kit" --quick --report "$work/report2.md" >/dev/null 2>&1
[ $? -eq 1 ] || wrong "a failure goes unnoticed"
grep -q '^| test_marks | failed: exit code 1 |' "$work/report2.md" || wrong "the failure is not in the report"
grep -q '^| workload | ok |' "$work/report2.md" || wrong "a failure stops the rest"
exit $failed
