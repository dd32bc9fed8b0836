#!/usr/bin/env bash
# The tables for people fit a terminal of 80 columns.   tests/program/columns.sh build/ci/epmoe
. "$(dirname "$0")/../rig/begin.sh"
export OMP_WAIT_POLICY=passive
ln -s "$PWD/models/austen-moe" "$work/model"
cd "$work" || exit 1

fits() { # what, FILE
    [ -s "$2" ] && python3 -c '
import sys
long = [line for line in open(sys.argv[1], encoding="utf-8") if len(line.rstrip("\n")) > 80]
sys.stderr.writelines(long)
sys.exit(len(long) > 0)' "$2" 2>stderr
    result $? "$1: expected lines of at most 80 columns"
}

"$epmoe" run -m model -p "It is a truth universally acknowledged" -n 12 --ignore-eos -t 1 --ranks 5 --record-routing routing \
    --profile >stdout 2>stderr
result $? "run: expected exit code 0"
sed -n '/^where the time goes/,$p' stderr >profile
fits profile profile
[ "$(grep -c '^layer ' profile)" -eq 4 ] && [ "$(grep -c '^ rank ' profile)" -eq 4 ]
result $? "profile: expected two tables of layers and two of ranks, for prefill and for decode"
"$epmoe" alltoall --ranks 3 -b 8 -e 1M -f 64 -n 2 -w 1 -c >alltoall 2>stderr
fits alltoall alltoall
"$epmoe" alltoall --ranks 3 --tokens 4 --emit-matrix matrix >stdout 2>stderr
"$epmoe" alltoall --ranks 3 --matrix matrix -n 2 >alltoall 2>stderr
fits 'alltoall --matrix' alltoall
"$epmoe" replay routing --ranks 3 -n 1 -m model -t 1 >replay 2>stderr
fits replay replay
"$epmoe" place --from routing --ranks 3 >place 2>stderr && "$epmoe" place --from routing --ranks 7 --replicas 4 >>place 2>stderr
fits place place
"$epmoe" bench -m model -p 16 -n 4 -r 1 -t 1 --ranks 2 2>stderr | grep '^|' >bench
fits bench bench
finish
