#!/usr/bin/env bash
# Checks everything that needs a GPU, in two parts of at most 270 s each. Each part can run alone.
#   tools/gpu_check.sh [--correct] [--speed]    runs both parts if neither is named
#     --binary DIR      a build directory, or a kit of tools/gpu_kit.sh; else gpu_kit/, and where there is
#                       none, a build made first
#     --nccl DIR        take libnccl.so.2 from there; else a kit's own, else PyTorch's
#     --out DIR         gpu_report: DIR/report.md begins with one page, and DIR/logs.tar.gz has all logs
#     --only A,B        only these steps (into gpu_report_only)
#     --seconds N       seconds of a part, if it is to have fewer than its 270
#     --dry-run         print the plans, their seconds and sums; fails where a sum passes 270
#     --quick           a tiny model and few cases, to try this script; 900 s for all of a part
# Steps are in tools/gpu_check/plan.sh. None stops the others, and each has a log of its own. A step
# that fails, is stopped at its limit or has no time left to start fails the check; one that cannot be
# done here is skipped, and the report says why.
# Needs a driver and Python; nvcc and CMake to build. Exit: 0 all well, 1 a step failed, 77 no GPU.
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/tools/gpu_check/plan.sh"
parts=() binary='' nccl='' out='' only='' seconds='' dry='' quick=''
usage() {
    sed -n '2,/^set/s/^# \?//p' "$0" | sed '$d' >&2
    exit 2
}
while [ $# -gt 0 ]; do
    case $1 in
    --correct | --speed) parts+=("${1#--}") ;;
    --binary | --nccl | --out | --only | --seconds)
        [ $# -gt 1 ] || usage
        declare "${1#--}=$2" && shift
        ;;
    --dry-run) dry=yes ;;
    --quick) quick=yes ;;
    *) usage ;;
    esac
    shift
done
[ ${#parts[@]} -gt 0 ] || parts=(correct speed)
[ -z "$quick" ] || part_limit=900
seconds=${seconds:-$part_limit}
[[ $seconds =~ ^[0-9]+$ ]] && [ "$seconds" -le "$part_limit" ] || usage
out=$(realpath -m "${out:-gpu_report${only:+_only}}")
[ -z "$binary" ] || binary=$(realpath -m "$binary")
[ -z "$nccl" ] || nccl=$(realpath -m "$nccl")
cd "$here" || exit 2
. tools/gpu_check/prepare.sh

# Check that each name of --only is the name of a step of these parts.
check_names() {
    local name
    for name in ${only//,/ }; do
        plan | awk -v parts=" ${parts[*]} " '{ if (index(parts, " " $1 " ")) print $3 }' | grep -qxF -e "$name" || {
            echo "gpu_check: expected steps of the plan (--dry-run) after --only, found \"$name\"" >&2
            exit 2
        }
    done
}

print_plans() {
    local part sum good=0
    for part in "${parts[@]}"; do
        sum=$(sum_of "$part")
        echo "$part: $sum s of $part_limit"
        steps_of "$part" "$only" | sed 's/^[a-z]* */  /'
        [ "$sum" -le "$part_limit" ] || good=1
    done
    [ $good -eq 0 ] || echo "gpu_check: expected at most $part_limit s of each part, found more" >&2
    return $good
}

# ---- running ----

failed=0

# Print the result of a step in one line, by its exit code. Why it was skipped is the last line of its log.
outcome() { # code took limit log
    case $1 in
    0) echo ok ;;
    77) echo "skipped: $(tail -n 1 "$4" | cut -c1-160)" ;;
    124 | 137) [ "$2" -lt "$3" ] && echo "failed: exit code $1" || echo "failed: stopped after $3 s" ;;
    *) echo "failed: exit code $1" ;;
    esac
}

note() { # part name planned took result
    printf '%s\t%s\t%s\t%s\n' "$2" "$3" "$4" "$5" >>"$out/$1/steps.tsv"
    printf '%-8s %-18s %s (%s s)\n' "$1" "$2" "$5" "$4"
    case $5 in failed*) failed=1 ;; esac
}

# Run a step, and stop it at its deadline, in seconds since the part began.
run_step() { # part planned name deadline began command…
    local part=$1 planned=$2 name=$3 limit=$(($4 - (SECONDS - $5))) start=$SECONDS log=$out/$1/$3.log code took
    shift 5
    if [ "$limit" -lt 1 ]; then
        note "$part" "$name" "$planned" 0 "failed: no time was left to start it"
        return
    fi
    STEP=$name logs=$out/$part timeout -k 3 "$limit" tools/gpu_check/step.sh "$@" >"$log" 2>&1 </dev/null
    code=$? took=$((SECONDS - start))
    note "$part" "$name" "$planned" $took "$(outcome $code $took "$limit" "$log")"
}

run_part() { # part
    local part=$1 began=$SECONDS planned name command deadline=0
    rm -rf "${out:?}/$part"
    mkdir -p "$out/$part"
    while read -r _ planned name command; do
        deadline=$((deadline + planned))
        [ -z "$quick" ] && [ $deadline -le "$seconds" ] || deadline=$seconds
        # shellcheck disable=SC2086 # the table's words
        run_step "$part" "$planned" "$name" $deadline $began $command
    done < <(steps_of "$part" "$only")
    rm -rf "$model" "${memory:?}"/*
    {
        date -u +'%Y-%m-%d %H:%M UTC'
        echo "$((SECONDS - began)) of $seconds s"
        "$binary/epmoe" --version | head -n 1
    } >"$out/$part/about" 2>&1
}

write_report() {
    python3 tools/gpu_report.py "$out" >"$out/report.md" || failed=1
    sed '/^## Steps$/,$d' "$out/report.md"
    (cd "$out" && tar -czf logs.tar.gz -- */)
    echo "report: $out/report.md"
}

check_names
if [ -n "$dry" ]; then
    print_plans
    exit
fi
prepare
for part in "${parts[@]}"; do
    run_part "$part"
done
write_report
exit $failed
