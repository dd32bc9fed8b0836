#!/usr/bin/env bash
# epmoe perplexity: transformers' figures (tests/golden/perplexity.json); the same digits for any threads,
# chunks, ranks and transport; types compared with each other as their logits say; what is refused.
#   tests/program/perplexity.sh build/ci/epmoe
. "$(dirname "$0")/../rig/mpi_rig.sh"
export OMP_WAIT_POLICY=passive
model=models/austen-moe
tiny=tests/golden/models/moe-60
text=$model/held-out.txt
head -c 1500 "$text" >"$work/text"
perplexity=("$epmoe" perplexity -m "$model" -f "$work/text")

checked() { # what, program in Python that reads stdout
    python3 -c "import csv, json, math, re, struct, sys
$2" <"$work/stdout" 2>"$work/stderr"
    result $? "$1"
}

# The report without what depends on time.
figures() { # FILE
    python3 -c 'import json, sys
r = json.load(open(sys.argv[1]))
for one in r["results"]:
    del one["seconds"], one["tokens_per_s"]
print(r)' "$1"
}

# ---- transformers' figures ----

# Relative: f32 sums in another order. Per token the errors have either sign, so a mean of few is worst.
tolerance=2e-6
cases() { # SIZE WINDOW STRIDE of each golden case; in pairs those of more than 5000 tokens are left out
    python3 -c 'import json, os, sys
for c in json.load(open("tests/golden/perplexity.json"))["cases"]:
    if c["tokens_in"] < 5000 or "EPMOE_TEST_PAIRS" not in os.environ:
        print(c["bytes"], c["window"], c["stride"])'
}
n_cases=0
while read -r size window stride; do
    head -c "$size" "$text" >"$work/part"
    "$epmoe" perplexity -m "$model" -f "$work/part" --dtype f32 --window "$window" --stride "$stride" -o json \
        >"$work/stdout" 2>"$work/stderr"
    result $? "$size bytes, window $window, stride $stride: expected exit code 0"
    checked "$size bytes, window $window, stride $stride: expected transformers' figures" "
key = ($size, $window, $stride)
golden = next(c for c in json.load(open('tests/golden/perplexity.json'))['cases']
              if (c['bytes'], c['window'], c['stride']) == key)
r = json.load(sys.stdin)
one = r['results'][0]
for name in ('bytes', 'tokens', 'window', 'stride'):
    assert r[name] == golden[name], (name, r, golden)
for name in ('tokens_scored', 'tokens_in'):
    assert one[name] == golden[name], (name, one, golden)
found, wanted = one['nats_per_token'], golden['nats_per_token']
assert abs(found - wanted) <= $tolerance * wanted, (found, wanted)
assert math.isclose(one['perplexity'], math.exp(found), rel_tol=1e-8), one
bits = found / math.log(2) * r['tokens'] / r['bytes']
assert math.isclose(one['bits_per_byte'], bits, rel_tol=1e-8) and one['dtype'] == 'f32', one"
    n_cases=$((n_cases + 1))
    cp "$work/stdout" "$work/of-$size-$window"
done < <(cases)
[ "$n_cases" -ge 6 ]
result $? "golden cases: expected 6 or more, found $n_cases"
bytes=$(wc -c <"$text")
if [ -z "${EPMOE_TEST_PAIRS:-}" ]; then
    cp "$work/of-$bytes-512" "$work/stdout"
    checked "models/austen-moe/README.md, docs/numerics.md: expected the figures of the held-out text" "
r = json.load(sys.stdin)
one = r['results'][0]
row = f\"| f32 | 512, 256 | {one['perplexity']:.2f} | {one['bits_per_byte']:.3f} |\"
assert row in open('$model/README.md').read(), row
found = re.search(r'^\| f32 \| ([0-9.]+) \|', open('docs/numerics.md').read(), re.M)
assert abs(float(found[1]) - one['perplexity']) < 1e-3, (found, one)"
fi

# ---- the same for any ranks ----

many=("${perplexity[@]}" --window 100 --stride 60 --dtype bf16,f32 -o json)
"${many[@]}" -t 1 >"$work/alone" 2>"$work/stderr"
result $? "alone: expected exit code 0"
as_alone() { # WHAT COMMAND…
    local what=$1
    shift
    "$@" >"$work/stdout" 2>"$work/stderr"
    result $? "$what: expected exit code 0"
    [ "$(figures "$work/stdout")" = "$(figures "$work/alone")" ]
    result $? "$what: expected the figures of one rank"
}
as_alone "2 threads, chunks of 7" "${many[@]}" -t 2 --chunk 7
as_alone "3 ranks" "${many[@]}" --ranks 3 -t 1
as_alone "4 ranks, two halves, chunks of 31" "${many[@]}" --ranks 4 -t 1 --overlap on --chunk 31 --strategy padded
as_alone "MPI" tests/rig/mpi.sh 3 "${many[@]}" -t 1

# ---- types beside each other ----

# Of one window of a tiny model, whose logits epmoe logits writes: the reference's, and the other's.
ids=3,1,4,15,9,2,6,53,58,97,93,23,84,62,64,33,83,27,95,2
for type in f32 bf16; do
    "$epmoe" logits -m "$tiny" --tokens $ids --dtype $type -o "$work/$type" 2>"$work/stderr"
    result $? "logits in $type: expected exit code 0"
done
as_logits_say="
def rows(path):
    data = open(path, 'rb').read()
    n = struct.unpack('<Q', data[:8])[0]
    rows, vocab = json.loads(data[8:8 + n])['logits']['shape']
    values = struct.unpack(f'<{rows * vocab}f', data[8 + n:])
    return [values[i * vocab:(i + 1) * vocab] for i in range(rows - 1)]
def log_softmax(row):
    most = max(row)
    total = most + math.log(math.fsum(math.exp(v - most) for v in row))
    return [v - total for v in row]
ids = [$ids]
p, q = ([log_softmax(row) for row in rows(f'$work/{type}')] for type in ('f32', 'bf16'))
kl = [math.fsum(math.exp(a) * (a - b) for a, b in zip(*pair)) for pair in zip(p, q)]
same = sum(a.index(max(a)) == b.index(max(b)) for a, b in zip(p, q)) / len(p)
r = json.load(sys.stdin)
first, second = r['results']
assert (first['dtype'], second['dtype'], r['reference']) == ('f32', 'bf16', 'f32'), r
assert r['bytes'] is None and first['bits_per_byte'] is None and 'kl_mean' not in first, r
for one, logs in ((first, p), (second, q)):
    mean = -math.fsum(row[id] for row, id in zip(logs, ids[1:])) / len(p)
    assert math.isclose(one['nats_per_token'], mean, rel_tol=1e-8), (one, mean)
assert second['same_best'] == same, (second, same)"
compared=("$epmoe" perplexity -m "$tiny" --tokens $ids -o json)
"${compared[@]}" --dtype f32,bf16 >"$work/stdout" 2>"$work/stderr"
checked "f32,bf16: expected what the logits of both say" "$as_logits_say
assert second['kl_tokens'] == len(p) == 19, second
assert math.isclose(second['kl_mean'], math.fsum(kl) / len(p), rel_tol=1e-8) and second['kl_mean'] > 0, (second, kl)"
"${compared[@]}" --dtype bf16 --reference f32 >"$work/stdout" 2>"$work/stderr"
checked "--reference f32: expected f32 first" "$as_logits_say"
"${compared[@]}" --dtype bf16,f32 --reference f32 --keep 2600 >"$work/stdout" 2>"$work/stderr"
checked "--keep: expected KL of as many tokens as have room, evenly spaced" "$as_logits_say
n = second['kl_tokens']
assert n == 2600 // (4 * len(p[0])) and 1 < n < 19, (second, len(p[0]))
places = [i for i in range(19) if i == 0 or i * n // 19 != (i - 1) * n // 19]
assert math.isclose(second['kl_mean'], math.fsum(kl[i] for i in places) / n, rel_tol=1e-8), (second, kl)"
"${perplexity[@]}" --dtype f32,bf16,f32 -o csv >"$work/stdout" 2>"$work/stderr"
checked "CSV: expected a row for each type, and nothing between a type and itself" '
rows = list(csv.DictReader(sys.stdin))
assert [row["dtype"] for row in rows] == ["f32", "bf16", "f32"] and None not in rows[0], rows
assert rows[0]["kl_mean"] == "" and float(rows[1]["kl_mean"]) > 0 and float(rows[2]["kl_mean"]) == 0, rows
assert rows[2]["same_best"] == "1" and rows[0]["perplexity"] == rows[2]["perplexity"], rows'
"${perplexity[@]}" --dtype f32,bf16 >"$work/stdout" 2>"$work/stderr"
checked "text: expected two rows, one with two more columns" '
rows = [line.split() for line in sys.stdin if not line.startswith("#")]
assert [len(row) for row in rows] == [5, 8], rows'

# ---- errors ----

refuses() { # CODE "text in the line" OPTIONS…
    local code=$1 says=$2 found
    shift 2
    "$epmoe" perplexity "$@" >"$work/stdout" 2>"$work/stderr"
    found=$?
    [ "$found" -eq "$code" ] && [ "$(wc -l <"$work/stderr")" -eq 1 ] && grep -qF -- "$says" "$work/stderr" &&
        [ ! -s "$work/stdout" ]
    result $? "perplexity $*: expected exit code $code and one line with: $says"
}
known=(-m "$model" -f "$work/text")
refuses 2 'expected -m MODEL' -f "$work/text"
refuses 2 'expected -f FILE or --tokens IDS, found neither' -m "$model"
refuses 2 'expected -f FILE or --tokens IDS, found both' "${known[@]}" --tokens 1,2
refuses 3 "$work/none" -m "$model" -f "$work/none"
refuses 2 'expected a text of 2 tokens or more' -m "$model" --tokens 7
refuses 2 'expected token ids from 0 to 4095, found 4096' -m "$model" --tokens 7,4096
refuses 2 '--window takes a whole number from 2' "${known[@]}" --window 1
refuses 2 '--window 4096: expected at most 2048, the positions' "${known[@]}" --window 4096
refuses 2 '--window 65: expected at most 64, the context that -c sets' "${known[@]}" -c 64 --window 65
refuses 2 '--stride 101: expected at most the window of 100' "${known[@]}" --window 100 --stride 101
refuses 2 'perplexity: --dtype takes auto|f32|' "${known[@]}" --dtype f32,int3
refuses 2 'perplexity: --dtype takes auto|f32|' "${known[@]}" --dtype f32,
refuses 2 'perplexity: --reference takes auto|f32|' "${known[@]}" --dtype f32 --reference f3
refuses 2 '--reference: expected another type' "${known[@]}" --dtype f32 --reference f32
refuses 2 '--keep: expected another type' "${known[@]}" --keep 1M
refuses 2 '--keep takes bytes' "${known[@]}" --dtype f32,bf16 --keep little
refuses 2 'expected a model with a tokenizer' -m synth:tiny-moe -f "$work/text"
expect 2 'expected a text of 2 tokens' tests/rig/mpi.sh 3 "$epmoe" perplexity -m "$model" --tokens 7 --dtype f32,bf16,f16
expect 2 'expected -m MODEL' tests/rig/mpi.sh 2 "$epmoe" perplexity --tokens 7,8 --dtype f32,bf16

# logits that are no numbers
cp -rL "$tiny" "$work/nan"
python3 - "$work/nan/model.safetensors" <<'PY'
import json, struct, sys
with open(sys.argv[1], "r+b") as f:
    n = struct.unpack("<Q", f.read(8))[0]
    tensor = json.loads(f.read(n))["model.layers.1.input_layernorm.weight"]
    f.seek(8 + n + tensor["data_offsets"][0])
    f.write(struct.pack("<f", float("nan")) if tensor["dtype"] == "F32" else b"\xc0\x7f")
PY
nan=(-m "$work/nan" --tokens $ids --window 8 --stride 4)
says='the window of tokens 0 to 7 of the text: expected numbers for the logits at position 0, found NaN or infinity, first in the output of layer 1'
refuses 1 "$says" "${nan[@]}"
refuses 1 "$says" "${nan[@]}" --chunk 3 --ranks 3 --dtype f32,bf16
expect 1 "$says" tests/rig/mpi.sh 3 "$epmoe" perplexity "${nan[@]}" --dtype f32,bf16,f16
finish
