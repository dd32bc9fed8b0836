#!/usr/bin/env bash
# Prints a Markdown table of what every CUDA kernel uses: registers of a thread and static shared memory
# of a block, on sm_80 and sm_90. Fails when a kernel spills registers.
# usage: tools/ptxas_table.sh [kernels/cuda/file.cu ...]
set -euo pipefail
cd "$(dirname "$0")/.."
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
[ $# -gt 0 ] || set -- kernels/cuda/*.cu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Print lines "kernel<tab>registers<tab>shared bytes<tab>spilled bytes" of one file for one architecture.
measure() { # arch file
    "$nvcc" -std=c++17 -O3 -arch="$1" -Xptxas -v -I. -c "$2" -o "$scratch/object.o" 2>&1 |
        c++filt | awk '
            # remove the return type, and the parameters in the last pair of brackets
            function called(name,    depth, i, c) {
                sub(/^void /, "", name)
                for (i = length(name); i > 1; i--) {
                    c = substr(name, i, 1)
                    depth += (c == ")") - (c == "(")
                    if (c == "(" && depth == 0) break
                }
                return substr(name, 1, i - 1)
            }
            /: (fatal )?error/ { print > "/dev/stderr" }
            /Compiling entry function/ {
                split($0, quoted, "\047")
                name = called(quoted[2])
            }
            /bytes spill stores/ { spills = 0
                for (i = 2; i <= NF; i++)
                    if ($i == "spill") spills += $(i - 2) }
            /Used [0-9]+ registers/ {
                shared = 0
                for (i = 2; i <= NF; i++) {
                    if ($i ~ /^registers/) registers = $(i - 1)
                    if ($i ~ /^smem/) shared = $(i - 2)
                }
                printf "%s\t%d\t%d\t%d\n", name, registers, shared, spills
            }'
}

for file in "$@"; do
    for arch in sm_80 sm_90; do
        measure "$arch" "$file" | sort | sed "s|^|$(basename "$file")\t|" >>"$scratch/$arch"
    done
done

echo "| file | kernel | registers sm_80 | sm_90 | shared bytes | spilled bytes |"
echo "|---|---|--:|--:|--:|--:|"
paste "$scratch/sm_80" "$scratch/sm_90" | awk -F'\t' '
    { printf "| %s | `%s` | %d | %d | %d | %d |\n", $1, $2, $3, $8, $4, $5 + $10
      if ($2 != $7) { print "kernels differ: " $2 ", " $7 > "/dev/stderr"; failed = 1 }
      spilled += $5 + $10; kernels++ }
    END {
        if (!kernels) { print "no kernels were compiled" > "/dev/stderr"; exit 1 }
        if (spilled) print "registers spill: " spilled " bytes" > "/dev/stderr"
        exit failed || spilled > 0
    }'
