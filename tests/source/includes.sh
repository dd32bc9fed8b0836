#!/usr/bin/env bash
# The folders are a tower: an include points down, or stays in its own folder. Foreign headers have
# one home each. See docs/architecture.md.
set -euo pipefail
cd "$(dirname "$0")/../.."

floor_of() {
    case $1 in
    launch) echo 8 ;; study | serve) echo 7 ;; coordinator | worker) echo 6 ;; profile) echo 5 ;; exchange) echo 4 ;;
    model | proto) echo 3 ;; transport) echo 2 ;; kernels) echo 1 ;; base) echo 0 ;;
    *) echo -1 ;;
    esac
}

errors=0
complain() {
    echo "$1"
    errors=$((errors + 1))
}

check_floors() {
    local file=$1 from to included
    from=${file%%/*}
    while read -r included; do
        to=${included%%/*}
        [ "$to" = "$from" ] && continue
        [ "$(floor_of "$to")" -lt 0 ] && continue
        [ "$(floor_of "$to")" -lt "$(floor_of "$from")" ] ||
            complain "$file: includes $included, which is not below $from"
    done < <(sed -n 's/^#include "\([^"]*\/[^"]*\)".*/\1/p' "$file")
}

check_home() { # pattern, the folder or file that may include it
    local found
    found=$(git ls-files '*.c' '*.h' '*.cu' '*.cuh' | grep -v "^$2" | grep -v '^tests/' |
        xargs -r grep -lE "^#include [<\"]($1)" || true)
    [ -z "$found" ] || complain "only $2 may include $1; found in: $found"
}

for file in $(git ls-files --cached --others --exclude-standard '*.c' '*.h' '*.cu' '*.cuh'); do
    [ "$(floor_of "${file%%/*}")" -ge 0 ] && [ -e "$file" ] && check_floors "$file"
done
check_home 'mpi\.h|mpi-ext\.h|nccl\.h' transport/
check_home 'cuda.*\.h|cublas.*\.h' kernels/cuda/
check_home 'protobuf-c/|.*\.pb-c\.h' proto/
check_home 'jansson\.h' base/json
check_home 'pcre2\.h|utf8proc\.h' model/
check_home 'microhttpd\.h' serve/http
check_home 'histedit\.h' launch/line_edit
check_home 'omp\.h|immintrin\.h' kernels/

[ "$errors" -eq 0 ] && echo "includes: all point down"
exit $((errors > 0))
