#!/usr/bin/env bash
# What cmake --install puts somewhere runs there: the program, the runner, the man page, completion; and
# the scripts say what they are for before they install or build anything.
#   tests/program/install.sh build/ci/epmoe
set -uo pipefail
build=$(dirname "$(realpath "$1")")
cd "$(dirname "$0")/../.."
. tests/rig/results.sh
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"

cmake --install "$build" --prefix "$work/there" >"$work/stdout" 2>"$work/stderr"
result $? "cmake --install"
rm -f "$work/stderr"
model=$PWD/models/austen-moe
cd "$work" || exit 1
[ "$(there/bin/epmoe --version)" = "$("$build/epmoe" --version)" ]
result $? "the program: expected to run where it was installed"
there/bin/epmoe run -m "$model" -p Emma -n 8 -q >expected
if command -v mpirun >/dev/null; then
    there/bin/epmoe-mpirun -n 3 there/bin/epmoe run -m "$model" -p Emma -n 8 -q >stdout
    cmp -s expected stdout
    result $? "the runner: expected the same text from three ranks"
fi
for command in run batch chat serve logits tokenize synth quantize bench inspect doctor; do
    grep -q "^\.B[IR]* \"\?$command" there/share/man/man1/epmoe.1
    result $? "the man page: expected $command"
done
if command -v man >/dev/null; then
    LC_ALL=C man --warnings -l there/share/man/man1/epmoe.1 2>man-errors | grep -q 'expert-parallel runtime' && [ ! -s man-errors ]
    result $? "the man page: expected to be formatted without a warning: $(head -3 man-errors)"
fi

complete_words() { # words… , the last of which is completed
    (
        . there/share/bash-completion/completions/epmoe
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _epmoe "$1"
        echo "${COMPREPLY[*]}"
    )
}
[ "$(complete_words "$PWD/there/bin/epmoe" to)" = tokenize ]
result $? "completion of a command: found $(complete_words "$PWD/there/bin/epmoe" to)"
[ "$(complete_words "$PWD/there/bin/epmoe" b)" = "batch bench" ]
result $? "completion of two commands"
[ "$(complete_words "$PWD/there/bin/epmoe" run --tem)" = --temp ]
result $? "completion of an option: found $(complete_words "$PWD/there/bin/epmoe" run --tem)"
[ "$(complete_words "$PWD/there/bin/epmoe" run --dtype b)" = bf16 ]
result $? "completion of a choice: found $(complete_words "$PWD/there/bin/epmoe" run --dtype b)"
[ "$(complete_words "$PWD/there/bin/epmoe" synth --preset mix)" = mixtral-8x7b ]
result $? "completion of a preset: found $(complete_words "$PWD/there/bin/epmoe" synth --preset mix)"

# ---- scripts that install or build ----

cd "$OLDPWD" || exit 1
for script in tests/run.sh launch/install.sh launch/quickstart.sh; do
    # apt-get and cmake must not be called: with neither on the PATH, only help can succeed
    mkdir -p "$work/bin"
    for tool in bash env dirname sed; do ln -sf "$(command -v $tool)" "$work/bin/$tool"; done
    PATH=$work/bin "$script" --help >"$work/stdout" 2>"$work/stderr" && grep -q "$script" "$work/stdout"
    result $? "$script --help: expected what it is for, and nothing done"
done
PATH=$work/bin tests/run.sh cii >"$work/stdout" 2>"$work/stderr"
[ $? -eq 2 ] && grep -q 'found "cii"' "$work/stderr"
result $? "tests/run.sh cii: expected exit code 2 and the presets"
finish
