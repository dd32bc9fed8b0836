#!/usr/bin/env bash
# What takes too long for the gate, or needs packages from PyPI: the server under a storm of 200 clients for two
# minutes, OpenAI's own client, and the pages of serve and report in Chromium, whose pictures are left in build/ci/tests.
#   tests/long.sh [build/ci]
set -euo pipefail
build=$(realpath "${1:-build/ci}")
cd "$(dirname "$0")/.."
venv=$build/tests/venv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import openai, playwright' 2>/dev/null || "$venv/bin/pip" install -q openai playwright
export PYTHON=$venv/bin/python
tests/program/serve.sh "$build/epmoe" "$build/tests/freeze" openai
if [ -x /usr/bin/chromium ]; then
    tests/program/serve.sh "$build/epmoe" "$build/tests/freeze" page
    REPORT=$build/tests/report.html tests/program/report.sh "$build/epmoe"
    "$PYTHON" tests/program/report_page.py "$build/tests/report.html" "$build/tests"
else
    echo "skipped the pages: no /usr/bin/chromium"
fi
tests/program/serve.sh "$build/epmoe" "$build/tests/freeze" storm 120
