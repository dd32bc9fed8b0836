#!/usr/bin/env bash
# Installs what is missing, builds epmoe, and runs the main job on the shipped model: in one process, then
# with a coordinator and four workers. Both print the same text.
#   launch/quickstart.sh ["a prompt"]
set -euo pipefail
case ${1:-} in
-h | --help)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit
    ;;
esac
cd "$(dirname "$0")/.."

launch/install.sh
cmake --preset release >/dev/null
cmake --build --preset release --target epmoe

prompt=${1:-It is a truth universally acknowledged}
job=(build/release/epmoe run -m models/austen-moe -p "$prompt" -n 64)

echo
echo "== one process"
"${job[@]}"
echo
echo "== five ranks: one coordinator, four workers; experts and the rest are shared out by cost"
launch/mpirun.sh -n 5 "${job[@]}"
