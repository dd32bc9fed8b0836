#!/usr/bin/env bash
# tools/gpu_check.sh, as far as a build without a GPU goes: on the emulation both parts run in their quick
# form, then each step once more with the program broken that it runs. What the machine or the emulation
# lacks (nvidia-smi, ncu, compute-sanitizer, transformers, NCCL between processes) is played by
# tests/rig/gpu_check_fake.sh. Elsewhere it skips. The tables in docs/gpu.md are those that their programs
# print.
#   tests/gpu/gpu_check.sh build/emulated/epmoe
set -uo pipefail
binary=$(dirname "$(realpath "$1")")
cd "$(dirname "$0")/../.." || exit 1
. tools/gpu_check/plan.sh
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

check_tables() { # name program
    sed -n "/^<!-- $1 -->\$/,/^<!-- end of $1 -->\$/p" docs/gpu.md | sed '1d;$d' >"$work/told"
    python3 "$2" | diff - "$work/told" || wrong "docs/gpu.md: other $1 than $2"
}

# Both plans with their seconds; a plan of more than 270 s is refused.
check_plans() {
    local line
    tools/gpu_check.sh --dry-run >"$work/plans" || wrong "the plans pass 270 s: $(cat "$work/plans")"
    for line in '^correct: [0-9]* s of 270$' '^speed: [0-9]* s of 270$' '^  [0-9]* memcheck '; do
        grep -q "$line" "$work/plans" || wrong "no plan with $line"
    done
    tools/gpu_check.sh --dry-run --speed --only memcheck >/dev/null 2>&1
    [ $? -eq 2 ] || wrong "a step that this part does not have is not refused"
    cp -r tools "$work/tools"
    sed -i 's/^speed  *[0-9]* loading/speed 999 loading/' "$work/tools/gpu_check/plan.sh"
    "$work/tools/gpu_check.sh" --dry-run >/dev/null 2>&1 && wrong "a plan of more than 270 s is not refused"
}

# A kit whose programs can be broken, and the tools of a GPU machine.
make_kit() {
    local name
    mkdir -p "$work/kit/tests" "$work/path"
    for name in epmoe "${gpu_programs[@]/#/tests/}"; do
        ln -s "$PWD/tests/rig/gpu_check_fake.sh" "$work/kit/$name"
    done
    for name in nvidia-smi ncu compute-sanitizer python3 ldd; do
        ln -s "$PWD/tests/rig/gpu_check_fake.sh" "$work/path/$name"
    done
    mkdir "$work/kit/nccl"
    echo played | xz >"$work/kit/nccl/libnccl.so.2.xz"
    export FAKE_BINARY=$binary FAKE_PATH=$PATH
    export EPMOE_EMULATED_NCCL=2.30.3 # the first that lets ranks share a GPU
}

check() { # options…
    PATH=$work/path:$PATH tools/gpu_check.sh --binary "$work/kit" --quick --out "$work/report" "$@" >"$work/out" 2>&1
}

result() { # part step
    awk -F '\t' -v step="$2" '$1 == step { print $4 }' "$work/report/$1/steps.tsv"
}

# All well: every step has its line, its log, and what the page makes of it.
check_whole() {
    local part name found line
    check || wrong "expected exit code 0, found $?: $(cat "$work/out")"
    while read -r part _ name _; do
        found=$(result "$part" "$name")
        [ "$found" = ok ] || wrong "$part: $name is \"$found\": $(tail -n 5 "$work/report/$part/$name.log")"
        tar -tzf "$work/report/logs.tar.gz" "$part/$name.log" >/dev/null || wrong "no log of $name"
    done < <(plan)
    for line in '\*\*speed\*\*: 15 of 15 steps passed' '| early launch on, decode, batch 1 |' \
        '- early launch, of the whole workload: o' '- NCCL.s communicator: .* asking)$' \
        '- routed experts, ' '- .*shared expert' '- .*prefetch' '- decode, batch 1, by gpu_bench: in order' \
        '- decode, batch 1: the phases' '- .--profile. plays no graph' '| .ffn_stream. | 12.5 |' \
        '- from storage: .*/s$' '^transformers on'; do
        grep -q -e "$line" "$work/report/report.md" || wrong "no line with $line in the report"
    done
}

# Its program fails: the step is in the report as failed, and so says the exit code.
check_broken() { # part step
    local needs=$2
    [[ $2 != logits && $2 != loading ]] || needs=checkpoint,$2
    FAKE_BROKEN=$2 check "--$1" --only "$needs"
    [ $? -eq 1 ] || wrong "$2 fails, and the exit code does not say so"
    [[ $(result "$1" "$2") == "failed: exit code "* ]] || wrong "$2 is broken and its result is \"$(result "$1" "$2")\""
    grep -q "^- $2: failed: exit code " "$work/report/report.md" || wrong "no line of $2 on the first page"
    [ "$needs" = "$2" ] || [ "$(result "$1" checkpoint)" = ok ] || wrong "$2 fails for want of a checkpoint"
}

# What is not an exit code: a wrong text, a tool that never ends, no time, a program that is missing.
check_other_failures() {
    FAKE_LIE=yes check --correct --only text
    [[ $? -eq 1 && $(result correct text) == failed* ]] || wrong "another text on the GPU goes unnoticed"
    FAKE_HANG=yes check --correct --only racecheck,synccheck --seconds 2
    [[ $? -eq 1 && $(result correct racecheck) == "failed: stopped after "* ]] || wrong "a sanitizer that hangs goes unnoticed"
    [[ $(result correct synccheck) == "failed: no time was left"* ]] || wrong "a step without time goes unnoticed"
    rm -f "$work/kit/tests/gpu_same"
    check --correct --only early_same
    [[ $? -eq 1 && $(result correct early_same) == failed* ]] || wrong "a program that is missing goes unnoticed"
    FAKE_BROKEN=device,doctor check --correct --only device,doctor,libraries
    [[ $(result correct libraries) == ok ]] || wrong "a step that fails stops those after it"
}

python3 tests/gpu/gpu_report.py || wrong "the report says other things of known figures"
check_tables roofs tools/gpu_roofs.py
check_tables streams tools/gpu_streams.py
check_plans
make_kit
check --only device --correct
if [ $? -eq 77 ]; then
    grep -q '^skipped: .*expected a' "$work/out" || wrong "skips without a reason"
    [ ! -e "$work/report" ] || wrong "a report of nothing"
    exit $failed
fi
check_whole
while read -r part _ name _; do
    check_broken "$part" "$name"
done < <(plan)
check_other_failures
exit $failed
