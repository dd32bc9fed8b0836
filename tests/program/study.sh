#!/usr/bin/env bash
# Every command of docs/study.md, in order, with this build in place of build/release.
#   tests/program/study.sh build/ci/epmoe
[ "${EPMOE_TEST_PAIRS:-}" != 1 ] || { # three minutes there; alltoall, replay, place and calibrate try the code
    echo "skipped: under sanitizers its commands are those of alltoall.sh, replay.sh, place.sh and calibrate.sh"
    exit 77
}
. "$(dirname "$0")/../rig/mpi_rig.sh"
export OMP_WAIT_POLICY=passive EPMOE_MPI_LEAKS=no ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}fast_unwind_on_malloc=0"
export LSAN_OPTIONS="suppressions=$PWD/tests/rig/lsan.supp:print_suppressions=0"
root=$PWD
mkdir "$work/study"
ln -s "$root/models" "$root/launch" "$work/study"
cd "$work/study" || exit 1
n=0
awk '/^```/ { inside = !inside; next } inside && /^(build|launch)\//' "$root/docs/study.md" >commands
[ "$(wc -l <commands)" -ge 10 ]
result $? "expected the commands of docs/study.md"
while IFS= read -r line; do
    timeout 120 bash -c "${line//build\/release\/epmoe/$epmoe}" >"$work/stdout" 2>"$work/stderr" </dev/null
    [ $? -eq 0 ] && { [ -s "$work/stdout" ] || [ -s "${line##*[> ]}" ]; } # the last word may be a file that it writes
    result $? "expected exit code 0 and output: $line"
    n=$((n + 1))
    cp "$work/stdout" "output-$n"
    cp "$work/stderr" "errors-$n"
done <commands

# What section 4 says: the profiles have the figures that epmoe place has predicted, of rows and experts.
predicted() { # even or placed: decode's, then prefill's
    awk -v shift="$([ "$1" = placed ] && echo 1)" '$1 == "all" { i = shift + 0; print $(4 + i), $(2 + i), $(8 + i), $(6 + i) }' output-7
}
measured() { # which command
    awk '/^decode:/ { kind = 1 } /^prefill:/ { kind = 2 } $1 == "all" && NF == 9 { found[kind] = $(NF - 1) " " $NF }
         END { print found[1], found[2] }' "errors-$1"
}
[ "$(measured 10)" = "$(predicted even)" ] && [ -n "$(predicted even)" ]
result $? "even: predicted $(predicted even), measured $(measured 10)"
[ "$(measured 11)" = "$(predicted placed)" ] && [ "$(predicted placed)" != "$(predicted even)" ]
result $? "placed: predicted $(predicted placed), measured $(measured 11)"
cmp -s output-10 output-11 && cmp -s output-1 output-10
result $? "expected the same text with any placement"
finish
