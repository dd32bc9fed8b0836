#!/usr/bin/env bash
# epmoe report: the numbers of the page are those of the files, which are what the commands write; damaged and unknown
# files are refused by name; nothing in a file is read as HTML or as a command of gnuplot's.
#   tests/program/report.sh build/ci/epmoe
. "$(dirname "$0")/../rig/begin.sh"
needs gnuplot
export OMP_WAIT_POLICY=passive
checker=$PWD/tests/program/report.py model=$PWD/models/austen-moe
cd "$work" || exit 1

report() { # FILES…
    PATH=${search:-$PATH} "$epmoe" report "$@" -o page.html >stdout 2>stderr
}

shows() { # what, FIGURES, text that the page has…
    local what=$1 figures=$2
    shift 2
    python3 "$checker" check page.html "${given[@]}" >counts 2>stderr
    result $? "$what: expected the files' numbers"
    [ "$(cut -d' ' -f1 counts)" = "$figures" ]
    result $? "$what: expected $figures figures, found $(cat counts)"
    for text in "$@"; do
        grep -qF -- "$text" page.html
        result $? "$what: expected in the page: $text"
    done
}

refuses() { # CODE "text in the line" ARGUMENTS…
    local code=$1 says=$2 found
    shift 2
    echo "as it was" >page.html
    report "$@"
    found=$?
    [ "$found" -eq "$code" ] && [ "$(wc -l <stderr)" -eq 1 ] && grep -qF -- "$says" stderr && [ ! -s stdout ]
    result $? "report $*: expected exit code $code and one line with: $says; found $found"
    [ "$(cat page.html)" = "as it was" ] && [ -z "$(find . -name 'page.html?*')" ]
    result $? "report $*: expected the page as it was"
}

# The files, by the commands themselves: five ranks.
"$epmoe" run -m "$model" -p "It is a truth universally acknowledged" -n 24 --ignore-eos -t 1 --ranks 5 \
    --record-routing routing --profile-json profile.json >stdout 2>stderr &&
    "$epmoe" bench -m "$model" -p 24 -n 8 -r 1 -t 1 --ranks 1,2,5 --profile -o json >bench.json 2>stderr &&
    "$epmoe" bench -m "$model" -p 24 -n 8 -r 1 -t 1 --ranks 5 -o json >one.json 2>stderr &&
    "$epmoe" alltoall --ranks 5 -b 4K -e 64K -n 3 -w 1 -o json >alltoall.json 2>stderr &&
    "$epmoe" replay routing --ranks 5 -n 1 -m "$model" -t 1 -o json >replay.json 2>stderr &&
    "$epmoe" place --from routing --ranks 5 -o placement.json --report json >place.json 2>stderr &&
    "$epmoe" calibrate -m "$model" --ranks 5 --rows 16 -r 1 -o fit.json >stdout 2>stderr &&
    "$epmoe" project --routing routing --fit fit.json --ranks 3,5,64 --steps 4 -o json >project.json 2>stderr
result $? "expected the files"

given=(bench.json profile.json alltoall.json replay.json place.json fit.json project.json)
report "${given[@]}"
result $? "all files: expected exit code 0"
# profiles 2 x 4; alltoall 2; heat 1; balance of place 2, of the profiles of several ranks 4 x 3; replay 2; speed 1;
# fit 1; projection 2 x 2
shows 'all files' 33 "$epmoe run -m $model -p &#39;It is a truth" 'title' 'id="many"' '>fit</text>' \
    '<meta name="viewport"' 'prefers-color-scheme: dark' '@media print' \
    "<code>$epmoe calibrate -m $model --ranks 5 --rows 16 -r 1 -o fit.json</code>" \
    "<code>$epmoe project --routing routing --fit fit.json --ranks 3,5,64 --steps 4 -o json</code>"
grep -q 'not said' page.html
[ $? -eq 1 ]
result $? "all files: expected each file's command, version and machine"
grep -q 'Not in this report' page.html
[ $? -eq 1 ]
result $? "all files: expected no missing sections"
cp page.html whole.html
[ -z "${REPORT:-}" ] || cp page.html "$REPORT" # for tests/long.sh
report "${given[@]}" && cmp -s page.html whole.html
result $? "expected the same page of the same files"

given=(one.json alltoall.json)
report "${given[@]}" && shows 'two files' 2 'Not in this report' 'epmoe place --from' 'epmoe replay ROUTING' \
    'epmoe calibrate' 'epmoe project' 'profile-json' 'A file of calibrate would add its fit'
given=(place.json)
report place.json && shows 'one file' 3 'epmoe alltoall' 'epmoe bench'

# Experts with copies, each with its ranks in the order of the placement.
"$epmoe" bench -m "$model" -p 24 -n 2 -b 8 -r 1 -t 1 --record-routing batch.routing >stdout 2>stderr &&
    "$epmoe" place --from batch.routing --ranks 16 --replicas 16 -o copies.placement --report json >copies.json 2>stderr
result $? "expected a placement with copies"
given=(copies.json)
report copies.json && shows 'copies' 3 'aria-label="experts with copies"'
python3 - <<'PY' 2>stderr
import json, re
layers = json.load(open("copies.placement"))["layers"]
expected = [(l, e, ranks) for l, layer in enumerate(layers) for e, ranks in enumerate(layer) if isinstance(ranks, list)]
table = re.search(r'aria-label="experts with copies">.*?</table>', open("page.html").read(), re.S).group()
rows = [[re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in table.split("<tr>")[2:]]
assert [(int(l), int(e), [int(r) for r in ranks.split(", ")]) for l, e, _, ranks in rows] == expected != [], (rows, expected)
PY
result $? "copies: expected the experts and ranks of the placement"
python3 "$checker" set copies.json elsewhere.json layers/0/experts_with_copies '[{"expert": -1e300, "ranks": [1]}]'
refuses 3 'elsewhere.json: /layers/0/heat/60: expected a value' elsewhere.json
given=(place.json)
report place.json
grep -q 'experts with copies' page.html
[ $? -eq 1 ]
result $? "no copies: expected no table of them"
mkdir many && for i in {1..20}; do cp one.json many/$i.json; done
given=(many/*.json)
report many/*.json && shows 'twenty files' 0 many/7.json

# Names are text, in the page and in figures.
name='"<script>alert(1)</script>&amp;<img src=x onerror=y> $(touch pwned) é"'
drawn="\"';\\n!touch pwned\\n'<script>\`touch pwned\`éééé\"" # figures have the first 40 characters
python3 "$checker" set bench.json b1.json 0/model/name "$name" && python3 "$checker" set b1.json b2.json 0/results/0/test "$drawn" &&
    python3 "$checker" set alltoall.json a1.json skew "$name" && python3 "$checker" set replay.json r1.json ways/0/strategy "$drawn"
result $? "expected files with strange names"
cp one.json "<b>'\`touch pwned\`.json"
given=(b2.json "<b>'\`touch pwned\`.json" a1.json r1.json)
report "${given[@]}"
result $? "strange names: expected exit code 0"
shows 'strange names' 19 '&#60;script&#62;alert(1)' '`touch pwned`' '&lt;script>`touch'
[ ! -e pwned ] && ! grep -q '<script\|<img' page.html
result $? "strange names: expected nothing of them to be run"

# What is no such file, or not all of one.
cut -c1-2000 profile.json | head -c 2000 >half.json
echo '{"results": [], "what": 1}' >other.json
"$epmoe" bench -m "$model" -p 8 -n 2 --serve 500 --requests 2 -t 1 -o json >serve.json 2>stderr
"$epmoe" alltoall --ranks 2 --tokens 4 -n 1 --emit-matrix matrix >stdout 2>stderr
"$epmoe" alltoall --ranks 2 --matrix matrix -n 1 -o json >matrix.json 2>stderr
python3 "$checker" set place.json gone.json layers/2/heat/7 '"many"'
python3 "$checker" set alltoall.json nan.json sizes/1/combine/median_ns NaN
python3 "$checker" set profile.json short.json decode/layers/1/ranks '[]'
refuses 3 'half.json: expected JSON, found at byte 2000' profile.json half.json
refuses 3 'other.json: expected JSON of bench -o json' profile.json other.json
refuses 3 'found what bench --serve prints' serve.json
refuses 3 'found what alltoall --matrix prints' matrix.json
refuses 3 'placement.json: expected JSON of bench -o json' placement.json
refuses 3 'found a placement' placement.json
refuses 3 'nowhere.json: cannot be read' nowhere.json
refuses 3 'gone.json: /layers/2/heat/7: expected a finite number, found a string; epmoe place' gone.json
refuses 3 'nan.json: /sizes/1/combine/median_ns: expected a finite number' nan.json
refuses 3 'short.json: /decode/layers/1/' short.json
refuses 2 'unknown option "-q"' -q
"$epmoe" report profile.json -o /nowhere/page.html >stdout 2>stderr
[ $? -eq 1 ] && grep -q 'cannot be written' stderr
result $? "no folder for the page: expected exit code 1"
"$epmoe" report >stdout 2>stderr
[ $? -eq 2 ] && grep -q 'expected one RUN.json or more, found none' stderr
result $? "no file: expected exit code 2"
"$epmoe" report profile.json >stdout 2>stderr
[ $? -eq 2 ] && grep -q 'expected -o report.html' stderr
result $? "no output: expected exit code 2"

# gnuplot missing, and one that fails.
mkdir none bad quick
search=$work/none refuses 1 'expected gnuplot on PATH, which draws the figures, found none: apt-get install gnuplot-nox' profile.json
printf '#!/bin/sh\necho "line 0: out of ink" >&2\nexit 3\n' >bad/gnuplot
printf '#!/bin/sh\ncat >/dev/null\necho "<svg>"\necho "</svg>"\n' >quick/gnuplot
chmod +x bad/gnuplot quick/gnuplot
search=$work/bad:$PATH refuses 1 'expected a figure from gnuplot, found exit code 3: line 0: out of ink' profile.json

# Files damaged at one place: a page, or one line.
n=0
for file in bench profile alltoall replay place fit project; do
    for seed in {1..8}; do
        python3 "$checker" damage $file.json damaged.json $seed
        search=$work/quick:$PATH report damaged.json
        found=$?
        [ $found -eq 0 ] || { [ $found -eq 3 ] && [ "$(wc -l <stderr)" -eq 1 ] && grep -q 'damaged.json: ' stderr && n=$((n + 1)); }
        result $? "$file.json, damage $seed: expected a page or one line, found exit code $found"
    done
done
[ $n -ge 10 ]
result $? "expected damage to be found, found $n"
finish
