#!/usr/bin/env bash
# Measures how speed grows with ranks: runs the same workload on 1, 2, 3, 5 and 8 hosts of launch/lab.sh,
# one after the other, and prints CSV.
# Needs root and an idle machine of two cores. The first round takes 18 minutes; those after it have 1
# and 5 hosts only and take 7.
#   tools/scaling.sh build/release/epmoe 3 >scaling.csv      # three rounds
#   tools/plot_scaling.py scaling.csv docs/scaling.svg       # table on stdout, picture in a file
set -uo pipefail
epmoe=$(realpath "$1")
rounds=${2:-3}
cd "$(dirname "$0")/.."
model=synth:qwen1.5-moe-a2.7b:4
priority=() # beside other jobs: PRIORITY="chrt -r 1"
[ -z "${PRIORITY:-}" ] || read -ra priority <<<"$PRIORITY"

measure() { # hosts, each one's share of a core, rate of a link or -, bench's options
    local hosts=$1 cpu=$2 rate=$3 limit=()
    shift 3
    [ "$rate" = - ] || limit=(--rate "$rate")
    launch/lab.sh -n "$hosts" --cpu "$cpu" "${limit[@]}" --no-roof -- \
        "${priority[@]}" "$epmoe" bench -m "$model" -t 1 -r 1 -o csv "$@" 2>/dev/null |
        awk -F, -v OFS=, -v hosts="$hosts" -v cpu="$cpu" -v rate="$rate" \
            'NR > 1 { print hosts, cpu, rate, $1, $2, $4; fflush() }'
}

echo hosts,cpu,rate,test,batch,tokens_per_s
for ((round = 1; round <= rounds; round++)); do
    some=(1 5)
    [ "$round" -gt 1 ] || some=(1 2 3 5)
    for hosts in "${some[@]}"; do measure "$hosts" 0.34 - -p 256 -n 12; done
    for hosts in 1 5; do measure "$hosts" 0.34 - -b 32 -p 8 -n 12; done
    for hosts in 1 5; do measure "$hosts" 0.34 - -p 1500 -n 4; done
    [ "$round" -eq 1 ] || continue
    for hosts in 1 8; do measure "$hosts" 0.2 - -p 256 -n 12; done
    for rate in 100mbit 1gbit 10gbit; do
        measure 5 0.34 "$rate" -p 256 -n 12
        measure 5 0.34 "$rate" -p 1500 -n 4
    done
done
