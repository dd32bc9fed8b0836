#!/usr/bin/env bash
# Installs the packages that building and testing epmoe needs on Debian or Ubuntu, if any is missing.
#   launch/install.sh [--tests]     --tests: also what only the test suite and CI use
set -euo pipefail

case ${1:-} in
'' | --tests) ;;
*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    [ "$1" = -h ] || [ "$1" = --help ]
    exit
    ;;
esac

packages=(build-essential cmake ninja-build pkg-config git
    openmpi-bin libopenmpi-dev libprotobuf-c-dev protobuf-c-compiler libjansson-dev libpcre2-dev
    libutf8proc-dev libmicrohttpd-dev libedit-dev
    iproute2)
if [ "${1:-}" = --tests ]; then
    packages+=(libcmocka-dev clang libclang-rt-14-dev libomp-14-dev clang-format python3 python3-pip
        gnuplot-nox) # which epmoe report needs
fi

missing=()
for p in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "installing: ${missing[*]}"
root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "install.sh: not root and no sudo; as root: apt-get install ${missing[*]}" >&2
        exit 1
    }
    root=(sudo)
fi
"${root[@]}" apt-get update -qq
"${root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
