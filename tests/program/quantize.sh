#!/usr/bin/env bash
# epmoe quantize: what it writes runs with -m alone and gives the bytes that quantising at load
# gives, on any ranks and placement; and is refused by name where it is not what it should be.
#   tests/program/quantize.sh build/release/epmoe
. "$(dirname "$0")/../rig/begin.sh"
models=$PWD/tests/golden/models
austen=$PWD/models/austen-moe

# expect CODE "text in the line" ARGUMENTS… : one line on stderr
expect() {
    local code=$1 says=$2 found
    shift 2
    "$epmoe" "$@" >"$work/stdout" 2>"$work/stderr" </dev/null
    found=$?
    [ "$found" -eq "$code" ] && grep -qF -- "$says" "$work/stderr" && [ "$(wc -l <"$work/stderr")" -eq 1 ]
    result $? "epmoe $*: expected exit $code and: $says; found exit $found"
}

logits() { # OUT MODEL OPTIONS…
    "$epmoe" logits --tokens 1,2,3,4,5,6,7,8,9 -o "$work/$1" -m "${@:2}" 2>"$work/stderr"
}

# round_trip MODEL OPTIONS… : the bytes of logits that quantising at load gives, in several ways
round_trip() {
    local model=$1 way
    shift
    rm -rf "$work/dir"
    "$epmoe" quantize -m "$model" "$@" -o "$work/dir" 2>"$work/stderr"
    result $? "quantize -m $model $*"
    logits wanted "$model" "$@" -t 1
    result $? "logits -m $model $*"
    for way in "-t 2" "--ranks 3 -t 1" "--ranks 4 -t 1 --placement round-robin"; do
        # shellcheck disable=SC2086
        logits found "$work/dir" $way && cmp -s "$work/wanted" "$work/found"
        result $? "logits of $model $*, quantised, $way: other bytes than quantised at load"
    done
}

round_trip "$models/moe-60" --dtype q8
round_trip "$models/moe-60" --dtype q4
round_trip "$models/moe-sparse-step-2" --dtype q8 --expert-dtype q4 # dense layers, too
round_trip "$models/qwen3-moe-fused" --dtype q4                     # experts in fused tensors
round_trip "$models/qwen3-moe-fp8" --expert-dtype q4                # attention was in fp8
round_trip "$models/mixtral-published" --expert-dtype q8            # attention stays as it was
round_trip "$models/dense-tied" --dtype q8                          # an output matrix of its own
round_trip "$austen" --dtype q4

# on the shipped model as it was left: a run with no other option, everything beside the weights
packed=$work/dir
"$epmoe" run -m "$packed" -p "It is a truth" -n 8 >"$work/stdout" 2>"$work/stderr"
result $? "run -m DIR"
"$epmoe" run -m "$austen" --dtype q4 -p "It is a truth" -n 8 2>>"$work/stderr" | cmp -s - "$work/stdout"
result $? "run -m DIR: other text than with --dtype q4"
for file in tokenizer.json tokenizer_config.json generation_config.json config.json; do
    cmp -s "$austen/$file" "$packed/$file"
    result $? "$file is not beside the weights, or another"
done
"$epmoe" inspect "$packed" 2>"$work/stderr" | grep -q '^weights: *q4 and bf16'
result $? "inspect does not say q4"

# outputs that begin within a panel
python3 - "$packed/config.json" >"$work/odd.json" <<'PY'
import json, sys
config = json.load(open(sys.argv[1]))
layers, experts = config["num_hidden_layers"], config["num_experts"]
print(json.dumps({"ranks": 3, "layers": [[e % 3 for e in range(experts)]] * layers,
                  "outputs": [7, config["vocab_size"] - 30, 23]}))
PY
logits found "$packed" --ranks 3 -t 1 --placement "$work/odd.json" && cmp -s "$work/wanted" "$work/found"
result $? "outputs that begin within a panel: other bytes"

# refusals
expect 2 'expected neither --dtype nor --expert-dtype with a checkpoint that is quantised (q4)' run -m "$packed" -p x --dtype bf16
expect 2 'expected neither --dtype nor --expert-dtype' run -m "$packed" -p x --expert-dtype q8
expect 2 'expected weights as numbers, found quantised ones (q4/q4)' quantize -m "$packed" --dtype q8 -o "$work/again"
expect 2 'expected a directory without a checkpoint' quantize -m "$austen" --dtype q8 -o "$packed"
expect 2 'quantize: expected -m MODEL' quantize -m "$austen" -o "$work/again"
expect 2 '--dtype takes auto|q8|q4, found "bf16"' quantize -m "$austen" --dtype bf16 -o "$work/again"
expect 3 "expected a directory or a Hugging Face name" quantize -m "$work/nowhere" --dtype q8 -o "$work/again"
[ ! -e "$work/again" ]
result $? "a refused quantize left a directory"

# weights of which no scale can be made, in expert 7 of layer 1
cp -rL "$austen" "$work/huge"
python3 - "$work/huge/model.safetensors" <<'PY'
import json, struct, sys
with open(sys.argv[1], "r+b") as f:
    n = struct.unpack("<Q", f.read(8))[0]
    t = json.loads(f.read(n))["model.layers.1.mlp.experts.7.down_proj.weight"]
    assert t["dtype"] == "BF16"
    f.seek(8 + n + t["data_offsets"][0])
    f.write(struct.pack("<H", struct.unpack("<I", struct.pack("<f", 1e6))[0] >> 16))
PY
expect 3 'layer 1, expert 7: expected weights up to 524032, which q4 can hold, found larger ones' \
    quantize -m "$work/huge" --dtype q4 -o "$work/again"
[ ! -e "$work/again" ]
result $? "a refused quantize left a directory"

# Change a text of the header to another of the same length: broken FROM TO
broken() {
    rm -rf "$work/broken"
    cp -r "$packed" "$work/broken"
    python3 - "$work/broken/model.safetensors" "$@" <<'PY'
import sys
path, old, new = sys.argv[1], sys.argv[2].encode(), sys.argv[3].encode()
data = open(path, "rb").read()
assert old in data and len(old) == len(new)
open(path, "wb").write(data.replace(old, new, 1))
PY
}
broken '"epmoe.layout_version": "1"' '"epmoe.layout_version": "2"'
expect 3 'epmoe.layout_version: expected "1", found "2"' run -m "$work/broken" -p x
broken 'panels of 16' 'panels of 32'
expect 3 'epmoe.layout: expected "panels of 16", found "panels of 32"' run -m "$work/broken" -p x
broken '"epmoe.layout_version"' '"epmoe.layout_Version"'
expect 3 'expected epmoe.layout and epmoe.layout_version, found no version' run -m "$work/broken" -p x
broken '"epmoe.blocks": "q4"' '"epmoe.blocks": "q5"'
expect 3 'epmoe.blocks: expected none, q8 or q4, found "q5"' run -m "$work/broken" -p x
broken '"epmoe.matrices": "q4"' '"epmoe.matrices": "q8"'
expect 3 'bytes of packed weights, found' run -m "$work/broken" -p x
broken 'epmoe.layers.1.experts.7.down' 'epmoe.layers.1.experts.7.dawn'
expect 3 'tensor "epmoe.layers.1.experts.7.down": expected' run -m "$work/broken" -p x

finish
