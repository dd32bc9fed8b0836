#!/usr/bin/env bash
# Compares predicted and measured times: runs epmoe calibrate --check on 2, 3, 5 and 8 hosts of
# launch/lab.sh, at several rates of their links and shares of a core, and prints CSV. A line is one run,
# which fits prices and then measures steps that were not used for the fit. If fit_of is another number
# of hosts, the run takes that run's prices and fits nothing. Needs root and an idle machine of two cores.
#   tools/calibrate_lab.sh build/release/epmoe models/austen-moe >calibrate.csv
#   EPMOE_LAB_RUNS="3,0.5,1gbit 5,0.34,-" tools/calibrate_lab.sh …   # other hosts, shares, rates
# Fits stay in calibrate-fits/, as HOSTS-SHARE-RATE.json.
set -uo pipefail
epmoe=$(realpath "$1")
model=$2
runs=${EPMOE_LAB_RUNS:-2,0.85,1gbit 3,0.55,1gbit 5,0.34,1gbit 8,0.2,1gbit 5,0.34,100mbit 5,0.34,10gbit 5,0.17,1gbit 5,0.34,-}
fits=$PWD/calibrate-fits
mkdir -p "$fits" || exit 1
here=$(realpath "$(dirname "$0")/..")
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT

calibrate() { # hosts, share of a core, rate or -, calibrate's options
    local hosts=$1 cpu=$2 limit=()
    [ "$3" = - ] || limit=(--rate "$3")
    shift 3
    "$here/launch/lab.sh" -n "$hosts" --cpu "$cpu" "${limit[@]}" --no-roof -- \
        "$epmoe" calibrate -m "$model" --check "$@" >"$log"
}

tell() { # hosts, share, rate, whose fit
    awk -v OFS=, -v run="$1,$2,$3,$4" '/^steps of all ranks:/ {
        match($0, /error [0-9.]+ %/); error = substr($0, RSTART + 6, RLENGTH - 8)
        match($0, /of [0-9]+ settings/); n = substr($0, RSTART + 3, RLENGTH - 12)
        match($0, /floor [0-9.]+ %/); noise = substr($0, RSTART + 6, RLENGTH - 8)
        print run, error, n, noise }' "$log"
}

echo hosts,cpu,rate,fit_of,median_error_percent,settings,noise_percent
for run in $runs; do
    IFS=, read -r hosts cpu rate <<<"$run"
    fit=$fits/$hosts-$cpu-$rate.json
    calibrate "$hosts" "$cpu" "$rate" -o "$fit" && tell "$hosts" "$cpu" "$rate" "$hosts" || exit 1
done
# Predict runs of more hosts from the prices of three hosts of the same kind.
for hosts in 5 8; do
    fit=$fits/3-0.2-1gbit.json
    [ -f "$fit" ] || calibrate 3 0.2 1gbit -o "$fit" || exit 1
    calibrate "$hosts" 0.2 1gbit --fit "$fit" && tell "$hosts" 0.2 1gbit 3 || exit 1
done
