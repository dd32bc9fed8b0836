#!/usr/bin/env bash
# epmoe doctor: every section is there on any machine, it never fails, and what is missing comes with
# what to do.   tests/program/doctor.sh build/release/epmoe
set -euo pipefail
epmoe=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
complain() {
    echo "doctor: $1"
    exit 1
}

sections=(processor instructions cores NUMA 'huge pages' memory build libraries OpenMP 'MPI library' mpirun
    CUDA NCCL gnuplot 'model cache')
check() { # what is special about this call; the report is in $work/report
    for section in "${sections[@]}"; do
        grep -qE "^(ok|hint|missing) +$section " "$work/report" ||
            complain "$1: no line about $section: $(cat "$work/report")"
    done
    [ ! -s "$work/stderr" ] || complain "$1: on stderr: $(cat "$work/stderr")"
}

"$epmoe" doctor >"$work/report" 2>"$work/stderr" || complain "exit $?"
check 'as it is'
grep -A1 -E '^missing' "$work/report" | grep -vE '^(missing|--)' | grep -qv -- '->' &&
    complain "something is missing and no advice follows"

for library in 'Open MPI v' 'protobuf-c ' 'jansson ' 'PCRE2 ' 'utf8proc ' 'libmicrohttpd ' 'libedit '; do
    grep -qE "^ok +libraries .*$library[0-9]" "$work/report" || complain "no version of $library"
done
listed=$("$epmoe" --version | sed -n 's/^libraries: //p')
grep -qF " $listed" "$work/report" || complain "expected the libraries of --version, $listed"

EPMOE_ISA=z80 PATH=$work HF_HOME=$work/no "$epmoe" doctor >"$work/report" 2>"$work/stderr" ||
    complain "exit $? on a poor machine"
check 'on a poor machine'
grep -qE '^missing +instructions .*z80' "$work/report" || complain "EPMOE_ISA=z80 is not told"
grep -qE '^missing +mpirun' "$work/report" || complain "no mpirun is not told"
grep -A1 -E '^hint +gnuplot' "$work/report" | grep -q 'gnuplot-nox' || complain "no gnuplot is not told"

# a cache with one model that can be run and one that cannot
commit=0123456789012345678901234567890123456789
for name in Org--Good Org--Bad; do
    mkdir -p "$work/hub/models--$name/refs" "$work/hub/models--$name/snapshots/$commit"
    printf %s $commit >"$work/hub/models--$name/refs/main"
done
cp "$(dirname "$0")/../golden/models/moe-60/config.json" "$work/hub/models--Org--Good/snapshots/$commit"
echo '{"model_type": "llama"}' >"$work/hub/models--Org--Bad/snapshots/$commit/config.json"
HF_HUB_CACHE=$work/hub "$epmoe" doctor >"$work/report" 2>"$work/stderr" || complain "exit $?"
check 'with models'
grep -qE '^ok +model cache .*2 models, 1 of them can be run: Org/Good$' "$work/report" ||
    complain "expected Org/Good: $(grep 'model cache' "$work/report")"

"$epmoe" doctor -o json | python3 -c '
import json, sys
findings = json.load(sys.stdin)["findings"]
assert {f["verdict"] for f in findings} <= {"ok", "hint", "missing"}
assert all(f["advice"] for f in findings if f["verdict"] == "missing")
' || complain "the JSON is not as expected"
"$epmoe" doctor -o yaml >/dev/null 2>&1 && complain "expected exit 2 for -o yaml"
echo "doctor: all sections are there"
