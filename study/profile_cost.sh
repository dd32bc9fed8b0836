#!/usr/bin/env bash
# What --profile costs: decode speed with and without it, turn by turn so that a machine that slows
# down slows both; the median of each.
#   study/profile_cost.sh build/release/epmoe MODEL [TURNS] [OPTION…]
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: study/profile_cost.sh EPMOE MODEL [TURNS] [OPTION…]" >&2 && exit 2; }
epmoe=$1 model=$2 turns=${3:-9}
shift $(($# < 3 ? $# : 3))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for turn in $(seq "$turns"); do
    for profile in "" --profile; do
        "$epmoe" bench -m "$model" -p 64 -n 200 -r 3 -o csv "$@" $profile >>"$work/speed$profile"
    done
done
median() { # test, file
    grep "^$1" "$2" | cut -d, -f4 | sort -g | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'
}
for test in pp64 tg200; do
    plain=$(median $test "$work/speed")
    profiled=$(median $test "$work/speed--profile")
    awk -v t=$test -v a="$plain" -v b="$profiled" \
        'BEGIN {printf "%-6s %10.1f tokens/s, profiled %10.1f: %+.2f %%\n", t, a, b, 100 * (a / b - 1)}'
done
