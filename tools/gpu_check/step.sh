#!/usr/bin/env bash
# One step of tools/gpu_check.sh: a function of correct.sh, speed.sh or common.sh, with its arguments.
# It reads the variables that prepare.sh exports, and writes results to $logs; tools/gpu_report.py reads
# $logs/$STEP.json. Exit: 0 passed, 77 cannot be done here (the last line of the log gives the reason).
set -uo pipefail
. tools/gpu_check/common.sh
. tools/gpu_check/correct.sh
. tools/gpu_check/speed.sh
"$@"
