#!/usr/bin/env bash
# epmoe alltoall: sizes, forms of the report, options that are refused, and what travels, alone, as
# threads and over MPI.   tests/program/alltoall.sh build/ci/epmoe
. "$(dirname "$0")/../rig/mpi_rig.sh"
export OMP_WAIT_POLICY=passive
all=("$epmoe" alltoall -w 1 -n 3)

refuses() { # CODE "text in the line" OPTIONS…
    local code=$1 says=$2 found
    shift 2
    timeout 60 "$epmoe" alltoall "$@" >"$work/stdout" 2>"$work/stderr"
    found=$?
    [ "$found" -eq "$code" ] && [ "$(wc -l <"$work/stderr")" -eq 1 ] && grep -qF -- "$says" "$work/stderr" &&
        [ ! -s "$work/stdout" ]
    result $? "alltoall $*: expected exit code $code and one line with: $says"
}

checked() { # what, program in Python that reads stdout
    python3 -c "import csv, json, sys
$2" <"$work/stdout" 2>"$work/stderr"
    result $? "$1"
}

# ---- sizes ----

"${all[@]}" --ranks 3 --hidden 64 --experts 8 -b 8 -e 4K -f 2 -c -o json >"$work/stdout" 2>"$work/stderr"
result $? "sizes: expected exit code 0"
checked "sizes: expected whole rows of 128 bytes, each once, and everything right" '
sizes = json.load(sys.stdin)["sizes"]
assert [s["tokens"] for s in sizes] == [1, 2, 4, 8, 16, 32], sizes
assert all(s["size_bytes"] == 128 * s["tokens"] and s["checked"] for s in sizes), sizes
assert all(s["logical_bytes"] == s["tokens"] * 4 * 2 * 128 and s["local_bytes"] == 0 for s in sizes), sizes'

"${all[@]}" --tokens 1,5,300 --ranks 5 -c -o csv >"$work/stdout" 2>"$work/stderr"
result $? "tokens: expected exit code 0"
checked "CSV: expected a row for each size, without gaps" '
rows = list(csv.DictReader(sys.stdin))
assert [r["tokens"] for r in rows] == ["1", "5", "300"], rows
assert all(r["checked"] == "true" and r["strategy"] == "exact" and None not in r for r in rows), rows
assert all(float(r["round_trip_p99_ns"]) >= float(r["round_trip_median_ns"]) > 0 for r in rows), rows'

"${all[@]}" --tokens 6 -c >"$work/stdout" 2>"$work/stderr"
result $? "alone: expected exit code 0"
[ "$(grep -c '^#' "$work/stdout")" -eq 9 ] && [ "$(grep -vc '^#' "$work/stdout")" -eq 2 ] &&
    [ "$(grep -v '^#' "$work/stdout" | head -1 | awk '{ print $1, $2, $3, $4, $5 == $6, $NF }')" = '24576 6 0 0 1 right' ]
result $? "alone: expected # headers, and a line of bytes in which nothing travels: $(cat "$work/stdout")"
"${all[@]}" --tokens 6 --ranks 3 --home 60 -c -o json >"$work/stdout" 2>"$work/stderr"
checked "everything at home: expected that nothing travels" '
s = json.load(sys.stdin)["sizes"][0]
assert s["out_bytes"] == s["back_bytes"] == 0 and s["local_bytes"] == s["logical_bytes"] > 0 and s["checked"], s'

# ---- the same bytes as threads and over MPI, and what dedup, combine and wire save ----

axes=(--tokens 3,50 --hidden 96 --skew zipf:1 --home 5 -c -o json)
"${all[@]}" --ranks 4 "${axes[@]}" >"$work/local" 2>"$work/stderr"
result $? "threads: expected exit code 0"
tests/rig/mpi.sh 4 "${all[@]}" "${axes[@]}" >"$work/mpi" 2>"$work/stderr"
result $? "MPI: expected exit code 0"
for way in '--dedup off' '--combine sum' '--wire int8' '--strategy padded' '--strategy allgather'; do
    # shellcheck disable=SC2086
    "${all[@]}" --ranks 4 "${axes[@]}" $way >"$work/${way##* }" 2>"$work/stderr"
    result $? "$way: expected exit code 0"
done
python3 - "$work" <<'PY' 2>"$work/stderr"
import json, sys
def read(name):
    run = json.load(open(f"{sys.argv[1]}/{name}"))
    assert all(s["checked"] for s in run["sizes"]), run
    return [[s[key] for key in ("out_bytes", "back_bytes", "logical_bytes", "local_bytes")] for s in run["sizes"]]
base = read("local")
assert read("mpi") == base, (read("mpi"), base)
out, back, logical, local = base[1]
row = 96 * 2
assert logical == 50 * 4 * 2 * row and back == (logical - local) // 2 > 0
assert read("off")[1][0] > out and read("off")[1][1:] == base[1][1:]
assert read("sum")[1][1] < back and read("sum")[1][2:] == [logical, local]
assert read("int8")[1][1] == back // row * (96 + 4)
assert read("padded")[1][0] % 3 == 0 and read("padded")[1][1] > back
assert (read("allgather")[1][0] - 50 * row * 3) % 3 == 0 and read("allgather")[1][1] == back
PY
result $? "ways: expected bytes as the ways have them"

# ---- byte matrices ----

"${all[@]}" --ranks 4 --tokens 9 --emit-matrix "$work/matrix" -o json >"$work/routed" 2>"$work/stderr"
result $? "--emit-matrix: expected exit code 0"
tests/rig/mpi.sh 4 "${all[@]}" --matrix "$work/matrix" -c -o json >"$work/mpi" 2>"$work/stderr"
result $? "--matrix: expected exit code 0"
python3 - "$work" <<'PY' 2>"$work/stderr"
import json, sys
cells = [[int(v) for v in line.split()] for line in open(f"{sys.argv[1]}/matrix")]
s = json.load(open(f"{sys.argv[1]}/routed"))["sizes"][0]
m = json.load(open(f"{sys.argv[1]}/mpi"))
assert len(cells) == 4 and all(len(row) == 4 for row in cells), cells
assert sum(cells[0]) == s["out_bytes"] and sum(row[0] for row in cells) == s["back_bytes"], (cells, s)
assert [r["sent_to"] for r in s["ranks"]] == cells[0] and all(row[1:] == [0, 0, 0] for row in cells[1:])
assert m["wire_bytes"] == s["out_bytes"] + s["back_bytes"] and m["checked"], m
assert m["busiest_bytes"] == max(s["out_bytes"], s["back_bytes"]), m
PY
result $? "matrices: expected what is written to be what travelled, and to travel again"

# ---- refused ----

printf '1 2\n3\n' >"$work/bad"
printf '[1, "x"]' >"$work/skew"
refuses 2 'expected ascending numbers' --tokens 3,3
refuses 2 'expected --tokens or -b, -e and -f, found both' --tokens 3 -b 8
refuses 2 'expected -b up to -e, found 8K and 4K' -b 8K -e 4K
refuses 2 'expected up to 64 sizes' -b 4K -e 4G -f 1.01
refuses 2 'expected --top-k up to --experts, found 4 of 3' --experts 3
refuses 2 '--wire bf16: expected an f32 model, found f16' --dtype f16 --wire bf16
refuses 2 'expected uniform, zipf:S with S from 0 to 8, or a file' --skew zipf:x
refuses 3 '[1]: expected a number from 0 to 1e300, found "x"' --skew "$work/skew" --experts 2 --top-k 1
refuses 3 'bad: row 1: expected 2 columns' --matrix "$work/bad" --ranks 2
refuses 2 'expected no option of routed rows beside it' --matrix "$work/bad" --tokens 4
refuses 2 'expected no option of routed rows beside it' --matrix "$work/bad" --home 4
refuses 2 '--transport mpi: expected mpirun, found none' --transport mpi
refuses 2 'without a model there is nothing to balance' --placement balanced
refuses 2 '--home 61: expected at most 60' --home 61
refuses 1 'cannot' --tokens 1 -n 1 --emit-matrix "$work/none/matrix" --ranks 2
expect 2 'ranks 3: under mpirun, -n sets the ranks' tests/rig/mpi.sh 2 "${all[@]}" --ranks 3
expect 3 'bad: row 1: expected 2 columns' tests/rig/mpi.sh 2 "${all[@]}" --matrix "$work/bad"

# Ranks that were started with other options than rank 0.
expect 2 'rank 1 on' tests/rig/mpi.sh 1 "${all[@]}" --tokens 3 : -n 1 "${all[@]}" --tokens 4
finish
