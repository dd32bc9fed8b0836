#!/usr/bin/env bash
# How threads wait for each other is chosen before OpenMP starts: a short spin, none where ranks or
# other jobs want more cores than there are, and whatever the user says. The program starts itself again for it: input, open
# files, arguments and exit code pass through.
#   tests/program/waiting.sh build/release/epmoe
. "$(dirname "$0")/../rig/begin.sh"
unset OMP_WAIT_POLICY GOMP_SPINCOUNT
job=(run -m models/austen-moe -n 1 -q -t 1 -p)
expect() { # what was expected, what was found
    [ "$1" = "$2" ]
    result $? "expected $1, found $2"
}

settings() { # as the OpenMP of the last start has them
    OMP_DISPLAY_ENV=verbose timeout 60 env "$@" "$epmoe" "${job[@]}" It 2>&1 >/dev/null |
        sed -n "s/.*\(OMP_WAIT_POLICY\|GOMP_SPINCOUNT\) = '\(.*\)'/\2/p" | tail -n 2 | tr '\n' ' '
}
if settings A=1 | grep -q .; then # libgomp
    found=$(settings A=1)
    [ "$found" = 'PASSIVE 3000 ' ] || [ "$found" = 'PASSIVE 0 ' ] # other tests may run beside this one
    result $? "expected a short spin, or none, found $found"
    expect 'PASSIVE 0 ' "$(settings OMPI_COMM_WORLD_LOCAL_SIZE=9999)"
    expect 'PASSIVE 77 ' "$(settings GOMP_SPINCOUNT=77)"
    expect "$(settings OMP_WAIT_POLICY=active GOMP_SPINCOUNT=5)" 'ACTIVE 5 '
    neighbours=()
    for ((i = 0; i < 2 * $(getconf _NPROCESSORS_ONLN); i++)); do
        while :; do :; done &
        neighbours+=($!)
    done
    expect 'PASSIVE 0 ' "$(settings B=1)"
    kill "${neighbours[@]}"
    wait 2>/dev/null
fi

starts() { # of the program, as mpirun and the shell count them: no more than one more
    OMP_DISPLAY_ENV=true timeout 60 env "$@" 2>&1 >/dev/null | grep -c 'DISPLAY ENVIRONMENT BEGIN'
}
expect 2 "$(starts "$epmoe" "${job[@]}" It)"
expect 1 "$(starts GOMP_SPINCOUNT=77 "$epmoe" "${job[@]}" It)"
expect 1 "$(starts "$epmoe" --version)"

wanted=$(GOMP_SPINCOUNT=77 "$epmoe" "${job[@]}" 'It  is "a" truth')
expect "$wanted" "$("$epmoe" "${job[@]}" 'It  is "a" truth')"
expect "$wanted" "$(printf 'It  is "a" truth' | "$epmoe" "${job[@]}" -)"
exec 7< <(echo '{"id": "a", "prompt": "It", "max_tokens": 1}')
expect '{"id": "a"' "$("$epmoe" batch -m models/austen-moe -t 1 -q -i /dev/fd/7 -o /dev/stdout | cut -c 1-10)"
"$epmoe" run --frobnicate 2>/dev/null
expect 2 $?

finish
