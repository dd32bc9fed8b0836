#!/usr/bin/env bash
# Runs a compiler, called in SOURCE/build/kit, with SOURCE's path made relative in its arguments: nvcc
# writes a source's name into the machine code as it was given, and has no option to change it.
#   relative_paths.sh SOURCE COMPILER ARGUMENT…
set -euo pipefail
source=$1
shift
exec "${@//"$source"/../..}"
