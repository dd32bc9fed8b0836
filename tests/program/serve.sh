#!/usr/bin/env bash
# epmoe serve (serve.py) and epmoe chat (chat.py) from outside: one part of it, or over MPI.
#   tests/program/serve.sh build/ci/epmoe build/ci/tests/freeze api|guards|load|storm|ends|mpi|chat|gpu|openai|page
#   … storm 120: so many seconds
freeze=$(realpath "$2") part=$3 seconds=${4:-10}
. "$(dirname "$0")/../rig/begin.sh"
export OMP_WAIT_POLICY=passive

case ${EPMOE_TEST_PAIRS:-}:$part in
1:storm | 1:mpi)
    echo "skipped: under sanitizers api, load and ends try the same code; tests/long.sh has the storm"
    exit 77
    ;;
esac

ask() { # what to ask, with its arguments
    timeout 900 "${PYTHON:-python3}" tests/program/serve.py "$@" >"$work/stderr" 2>&1
    local code=$?
    [ "$code" -ne 77 ] || cat "$work/stderr"
    [ "$code" -eq 0 ] || [ "$code" -eq 77 ]
    result $? "$*"
}

# A tiny model that has a chat template.
make_chat_model() {
    cp -r tests/golden/models/moe-60 "$work/model"
    cp tests/golden/chat/tokenizer.json "$work/model"
    head -n 1 tests/golden/chat/known.jsonl | sed 's/"template"/"chat_template"/' >"$work/model/tokenizer_config.json"
}

case $part in
api)
    ask api "$epmoe"
    ask prefix "$epmoe"
    make_chat_model
    ask chat "$epmoe" "$work/model"
    ;;
load)
    ask load "$epmoe"
    ask leaving "$epmoe"
    ask load_tool "$epmoe"
    ;;
ends)
    ask ends "$epmoe"
    ask ends "$epmoe" --ranks 3
    ask lost "$epmoe" "$freeze"
    ask lost_idle "$epmoe" "$freeze"
    ;;
storm) # freed memory that AddressSanitizer holds back would look like growth
    export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=8"
    ask storm "$epmoe" "$seconds" "$([ "$seconds" -gt 10 ] && echo 200 || echo 50)"
    ;;
openai)
    make_chat_model
    ask openai "$epmoe" "$work/model"
    ;;
chat)
    make_chat_model
    timeout 600 python3 tests/program/chat.py "$epmoe" "$work/model" >"$work/stderr" 2>&1
    result $? "epmoe chat"
    ;;
page)
    make_chat_model
    "${PYTHON:-python3}" tests/program/page.py "$epmoe" "$(dirname "$freeze")" "$work/model" 2>"$work/stderr"
    result $? "the page"
    ;;
mpi)
    needs mpirun
    export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0" # Open MPI has some of its own
    ask mpi_ends "$epmoe" launch/mpirun.sh
    ask killed "$epmoe" launch/mpirun.sh
    ask stopped_idle "$epmoe" launch/mpirun.sh
    ;;
*) ask "$part" "$epmoe" ;;
esac
finish
