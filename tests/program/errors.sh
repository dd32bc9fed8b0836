#!/usr/bin/env bash
# Input that is wrong: one line that names it, with what was expected and found, and the documented
# exit code; nothing half-written.   tests/program/errors.sh build/release/epmoe
. "$(dirname "$0")/../rig/begin.sh"
model=$PWD/tests/golden/models/moe-60
dense=$PWD/tests/golden/models/dense-tied
austen=$PWD/models/austen-moe

# expect CODE "text in the line" ARGUMENTS… : one line on stderr, nothing on stdout
expect() {
    local code=$1 says=$2 found
    shift 2
    timeout 60 "$epmoe" "$@" >"$work/stdout" 2>"$work/stderr" </dev/null
    found=$?
    if [ "$found" -eq "$code" ] && grep -qF -- "$says" "$work/stderr" &&
        [ "$(wc -l <"$work/stderr")" -eq 1 ] && [ ! -s "$work/stdout" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "epmoe $*"
        echo "  expected exit $code and one line with: $says"
        echo "  found exit $found, $(wc -c <"$work/stdout") bytes of output, and: $(cat "$work/stderr")"
    fi
}

# A copy of a model to break: variant NAME [FROM]. -L: breaking it must not reach through a link.
variant() {
    rm -rf "${work:?}/$1"
    cp -rL "${2:-$model}" "$work/$1"
    echo "$work/$1"
}

# Change a key of config.json: edit DIR KEY JSON (null removes nothing: it is a value)
edit() {
    python3 - "$@" <<'PY'
import json, sys
directory, key, value = sys.argv[1:]
path = directory + "/config.json"
config = json.load(open(path))
config[key] = json.loads(value)
json.dump(config, open(path, "w"))
PY
}

logits=(logits --tokens 1,2,3 -o "$work/out.safetensors" -m)

# arguments
expect 2 'expected a command' dance
expect 2 'unknown option' run --frobnicate
expect 2 'expected -m MODEL' run -p x
expect 2 'expected one of -p, -f and --tokens' run -m "$austen"
expect 2 'expected one of -p, -f and --tokens' run -m "$austen" -p x --tokens 1
expect 2 'needs a value' run -m
expect 2 '--temp takes a number from 0 to 100, found "hot"' run -m "$austen" -p x --temp hot
expect 2 '--dtype takes auto|f32|f16|bf16|q8|q4, found "int4"' run -m "$austen" -p x --dtype int4
expect 2 '--expert-dtype takes auto|q8|q4, found "bf16"' run -m "$austen" -p x --expert-dtype bf16
expect 2 'goes without --expert-dtype' bench -m "$austen" --ablation -p 32 -n 4 --expert-dtype q8
expect 2 '--wire takes model|bf16|int8' run -m "$austen" -p x --wire fp8
expect 2 '--strategy takes' run -m "$austen" -p x --strategy fastest
expect 2 'expected ids such as 1,2,3, found "2;3"' logits -m "$model" --tokens '1,2;3' -o "$work/o"
expect 2 'expected token ids from 0 to' logits -m "$model" --tokens 1,99999 -o "$work/o"
expect 2 'expected -o FILE' logits -m "$model" --tokens 1
expect 2 'the prompt is empty' run -m "$austen" -p ''
expect 2 'positions, found' run -m "$austen" -p 'It is a truth' -c 2 -n 100
expect 2 'positions, found' run -m "$austen" -p 'It is a truth' -c 2 -n -1
expect 2 'found "rnu"; did you mean run?' rnu
expect 2 'expected a command (epmoe --help lists them), found "zzz"' help zzz
expect 2 'unknown option "--tepm" (did you mean --temp?)' run --tepm 4
expect 2 'unknown option "--temperature=0" (did you mean --temp?)' run --temperature=0
expect 2 'unknown option "--max-tokens" (did you mean --n-predict?)' run --max-tokens 5
expect 2 'unknown option "--quite" (did you mean --quiet?)' batch --quite
expect 2 '--top-k takes a whole number from -1 to 16777216, found "-2"' run -m "$austen" -p x --top-k -2
expect 2 'expected --raw with -f or -p -' run -m "$austen" -p x --raw
expect 2 '--threads takes a whole number' run -m "$austen" -p x -t 2x
expect 2 'expected --preset' synth -o "$work/synth"
expect 2 'qwen1.5-moe-a2.7b' synth --preset gpt-5 -o "$work/synth"
expect 2 '-b takes' bench -m "$model" -b 0
expect 2 'expected -i FILE and -o FILE, found no -i' batch -m "$austen" -o "$work/o"
expect 2 'expected -i FILE and -o FILE, found no -o' batch -m "$austen" -i "$work/i"
expect 2 '--kv-memory takes bytes' batch -m "$austen" -i "$work/i" -o "$work/o" --kv-memory 4X
expect 2 '--max-batch takes' batch -m "$austen" -i "$work/i" -o "$work/o" --max-batch 0
expect 3 "$work/i: cannot be read" batch -m "$austen" -i "$work/i" -o "$work/o"
expect 3 'cannot be read: Is a directory' batch -m "$austen" -i "$work" -o "$work/o"
expect 1 'cannot be written' batch -m "$austen" -i /dev/null -o "$work/no/such/dir/out"
expect 2 '--resume takes a plain file' batch -m "$austen" -i /dev/null -o /dev/null --resume
expect 2 'expected --system with --chat' run -m "$austen" -p x --system y
expect 2 'expected --chat with -p or -f' run -m "$austen" --tokens 1 --chat
expect 1 'cannot be written' run -m "$austen" -p x --trace "$work/no/such/dir/trace"
expect 1 'cannot be written' run -m "$austen" -p x --profile-json "$work/no/such/dir/profile"
expect 2 'unknown option "--profile"' logits -m "$model" --tokens 1 -o "$work/o" --profile
expect 2 '--stop takes a text' run -m "$austen" -p x --stop ''
EPMOE_ISA=z80 expect 2 'EPMOE_ISA' "${logits[@]}" "$model"

# placements: by the argument, and by a file of one layer list for moe-60 (2 layers of 60 experts)
plan() { # JSON, or a Python expression that gives it
    python3 -c 'import json, sys; print(json.dumps(eval(sys.argv[1])))' "$1" >"$work/plan.json"
}
placed=("${logits[@]}" "$model" --ranks 5 --placement "$work/plan.json")
expect 2 '--home 61: expected at most 60' "${logits[@]}" "$model" --ranks 3 --home 61
expect 2 '--home takes a whole number' "${logits[@]}" "$model" --ranks 3 --home -1
expect 3 'expected balanced, even, round-robin or a file, found no such file' "${logits[@]}" "$model" \
    --placement roundrobin
expect 3 'expected a plain file' "${logits[@]}" "$model" --placement "$work"
plan '{"ranks": 5, "experts": [1] * 60}'
expect 2 '--home 2: expected none beside' "${placed[@]}" --home 2
expect 3 'ranks: expected 1, as many as this run has, found 5' "${logits[@]}" "$model" \
    --placement "$work/plan.json"
plan '{"ranks": 4, "experts": [1] * 60}'
expect 3 'plan.json: ranks: expected 5, as many as this run has, found 4' "${placed[@]}"
plan '{"ranks": 5, "experts": [1] * 59 + [5]}'
expect 3 'plan.json: experts[59]: expected a rank from 0 to 4, found 5' "${placed[@]}"
plan '{"ranks": 5, "experts": [1] * 61}'
expect 3 'experts: expected a rank for each of 60 experts, found 61 ranks' "${placed[@]}"
plan '{"ranks": 5, "layers": [[1] * 60]}'
expect 3 'layers: expected one for each of 2 layers, found 1' "${placed[@]}"
plan '{"ranks": 5, "layers": [[1] * 60, None]}'
expect 3 'layers[1]: expected a list of 60 ranks, found null' "${placed[@]}"
plan '{"ranks": 5, "layers": [[1] * 60, [1] * 59 + ["home"]]}'
expect 3 'layers[1][59]: expected a rank from 0 to 4, found "home"' "${placed[@]}"
plan '{"ranks": 5}'
expect 3 'expected either layers or experts, found neither' "${placed[@]}"
plan '{"ranks": 5, "experts": [1] * 60, "replicas": 2}'
expect 3 'found "replicas"' "${placed[@]}"
plan '[1] * 60'
expect 3 'expected an object' "${placed[@]}"
printf '{"ranks": 5, "experts": [1,' >"$work/plan.json"
expect 3 'plan.json: expected JSON' "${placed[@]}"
expect 3 'plan.json: expected JSON' inspect "$model" --ranks 5 --placement "$work/plan.json"
expect 2 'inspect: expected one MODEL' inspect
expect 1 'cannot be written' inspect "$model" --emit "$work/no/such/plan.json"
expect 3 'config.json' inspect "$work"
expect 2 'doctor: unexpected argument' doctor house

# models that are not there
expect 3 "$work/nowhere" "${logits[@]}" "$work/nowhere"
HF_HOME=$work/empty expect 3 'Qwen/Nothing' "${logits[@]}" Qwen/Nothing
mkdir -p "$work/empty-dir"
expect 3 'config.json' "${logits[@]}" "$work/empty-dir"
expect 3 'tokenizer.json' run -m "$model" -p x
expect 3 "$work/no-file" run -m "$austen" -f "$work/no-file"

expect 3 'expected a model'"'"'s directory, found one with' run -m "${austen%/*}" -p x
rm "$(variant pickled)"/*.safetensors
touch "$work/pickled/pytorch_model.bin"
expect 3 'found pytorch_model.bin, weights that PyTorch has pickled' "${logits[@]}" "$work/pickled"

expect 2 'found one made of shapes, which has none: run takes --tokens' run -m synth:tiny-moe -p x
expect 2 'found one made of shapes' batch -m synth:tiny-moe -i /dev/null -o "$work/o"

# config.json
edit "$(variant llama)" model_type '"llama"'
expect 3 'found "llama"' "${logits[@]}" "$work/llama"
edit "$(variant window)" use_sliding_window true
expect 2 'c 40000: expected at most 32768' run -c 40000 --tokens 1 --ids -n 1 -m "$work/window"
edit "$work/window" sliding_window 511
expect 3 'sliding_window: expected none' "${logits[@]}" "$work/window"
edit "$(variant act)" hidden_act '"gelu"'
expect 3 'hidden_act' "${logits[@]}" "$work/act"
edit "$(variant heads)" num_attention_heads '"four"'
expect 3 'num_attention_heads' "${logits[@]}" "$work/heads"
edit "$(variant topk)" num_experts_per_tok 1000
expect 3 'num_experts_per_tok' "${logits[@]}" "$work/topk"
edit "$(variant experts)" num_experts 61
expect 3 'mlp.gate.weight' "${logits[@]}" "$work/experts"
edit "$(variant width)" moe_intermediate_size 25
expect 3 'mlp.experts.0.gate_proj.weight' "${logits[@]}" "$work/width"
edit "$(variant sinks)" model_type '"gpt_oss"'
expect 3 'attention sinks' "${logits[@]}" "$work/sinks"
edit "$(variant untied "$dense")" tie_word_embeddings false
expect 3 'lm_head.weight' "${logits[@]}" "$work/untied"
printf '{' >"$(variant broken)/config.json"
expect 3 'expected JSON' "${logits[@]}" "$work/broken"

# safetensors
rm "$(variant weightless)/model.safetensors"
expect 3 'model.safetensors' "${logits[@]}" "$work/weightless"
truncate -s -1 "$(variant short)/model.safetensors"
expect 3 'model.safetensors' "${logits[@]}" "$work/short"
printf x >>"$(variant long)/model.safetensors"
expect 3 'model.safetensors' "${logits[@]}" "$work/long"
: >"$(variant empty)/model.safetensors"
expect 3 'model.safetensors' "${logits[@]}" "$work/empty"
printf '\377\377\377\377\377\377\377\177' | dd of="$(variant huge)/model.safetensors" conv=notrunc status=none
expect 3 'model.safetensors' "${logits[@]}" "$work/huge"
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n' >"$(variant lfs)/model.safetensors"
expect 3 'LFS' "${logits[@]}" "$work/lfs"

# outputs
expect 1 'cannot be written' logits --tokens 1 -o "$work/no/such/dir/out" -m "$model"
expect 2 'checkpoint' synth --preset qwen1.5-7b --layers 1 -o "$model"

# tokenizer
t=$(variant tokens "$austen")
printf '{"model": {"type": "WordPiece"}}' >"$t/tokenizer.json"
expect 3 'tokenizer.json' tokenize -m "$t" -p x
expect 3 'tokenizer.json' run -m "$t" -p x

# chat templates
t=$(variant other-template "$austen")
printf '%s\n' "{{ bos_token }}" "[INST] {{ messages[0]['content'] | indent }} [/INST]" >"$t/chat_template.jinja"
expect 3 'chat_template.jinja: chat template, line 2: expected a filter that is known here, found indent' \
    run -m "$t" -p x --chat
echo "{{ raise_exception('Only assistants!') }}" >"$t/chat_template.jinja"
expect 3 'the chat template refuses these messages: Only assistants!' run -m "$t" -p x --chat
echo "{{ messages[0].content }}" >"$t/chat_template.jinja"
expect 2 'expected a model whose chat template reads enable_thinking, found one whose template does not' \
    run -m "$t" -p x --chat --no-thinking
expect 2 'expected --no-thinking with --chat, found it alone' run -m "$t" -p x --no-thinking
t=$(variant no-template "$austen")
rm -f "$t/chat_template.jinja"
echo '{}' >"$t/tokenizer_config.json"
expect 3 'expected a chat_template for messages, found none' run -m "$t" -p x --chat

# what gives no next token
t=$(variant nothing-left)
echo "{\"suppress_tokens\": [$(seq -s, 0 100)]}" >"$t/generation_config.json"
expect 1 'generation_config.json bans all' run -m "$t" --tokens 1,2 --ids -n 3 -q
poison() { # DIR TENSOR: its first number becomes NaN
    python3 - "$1/model.safetensors" "$2" <<'PY'
import json, struct, sys
with open(sys.argv[1], "r+b") as f:
    n = struct.unpack("<Q", f.read(8))[0]
    tensor = json.loads(f.read(n))[sys.argv[2]]
    f.seek(8 + n + tensor["data_offsets"][0])
    f.write(struct.pack("<f", float("nan")) if tensor["dtype"] == "F32" else b"\xc0\x7f")
PY
}
t=$(variant nan-norm)
poison "$t" model.layers.1.input_layernorm.weight
says='found NaN or infinity, first in the output of layer 1 (of 0 to 1)'
expect 1 "$says" run -m "$t" --tokens 1,2 --ids -n 3 -q
expect 1 "$says" run -m "$t" --tokens 1,2 --ids -n 3 -q --temp 1 --ranks 3
expect 1 "$says" "${logits[@]}" "$t"
expect 1 "$says" "${logits[@]}" "$t" --ranks 3 --chunk 2
t=$(variant nan-batch "$austen")
poison "$t" model.norm.weight
echo '{"id": "a", "prompt": "x"}' |
    "$epmoe" batch -m "$t" -i - -o "$work/nan.jsonl" -q >"$work/stdout" 2>"$work/stderr"
if grep -q '"id": "a", "error": ".*last norm or the output matrix is broken' "$work/nan.jsonl"; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    echo "a batch of a model with NaN: $(cat "$work/nan.jsonl" "$work/stderr")"
fi
expect 3 'num_beams: expected 1, found 4' \
    run -m "$(variant beams && echo '{"num_beams": 4}' >"$work/beams/generation_config.json")" \
    --tokens 1 --ids

# tensors of which config.json says nothing
expect 3 'expected a number of layers that covers tensor model.layers.1.input_layernorm.weight, found 1' \
    "${logits[@]}" "$(edit "$(variant short)" num_hidden_layers 1 && echo "$work/short")"
expect 3 'expected no such tensor (by config.json, the layer has no shared expert), found one' \
    "${logits[@]}" "$(edit "$(variant unshared)" shared_expert_intermediate_size 0 && echo "$work/unshared")"
expect 3 'expected no such tensor (by config.json, the layer has experts in place of an MLP), found one' \
    "${logits[@]}" "$(edit "$(variant sparse "$PWD/tests/golden/models/moe-sparse-step-2")" decoder_sparse_step 1 &&
        echo "$work/sparse")"

# files that are links to nothing, pipes, or each other
gone=$(variant gone "$austen")
ln -sf nothing "$gone/generation_config.json"
expect 3 'generation_config.json: cannot be read: No such file' run -m "$gone" -p x
rm "$gone/generation_config.json" && mkfifo "$gone/generation_config.json"
expect 3 'generation_config.json: expected a plain file' run -m "$gone" -p x
echo '{"id": "a", "prompt": "It"}' >"$work/in.jsonl"
own='expected a file of its own to write, found the same as'
expect 2 "$own" run -m "$austen" -p x --profile-json "$work/twice" --trace "$work/twice"
echo x >"$work/prompt"
expect 2 "$own" run -m "$austen" -f "$work/prompt" --trace "$work/prompt"
expect 2 "$own" batch -m "$austen" -i "$work/in.jsonl" -o "$work/in.jsonl"
expect 2 "$own" batch -m "$austen" -i "$work/in.jsonl" -o "$work/out.jsonl" --trace "$work/out.jsonl"
expect 2 "$own" batch -m "$austen" -i "$work/in.jsonl" -o "$work/out.jsonl" --record-routing "$work/in.jsonl"
expect 2 "$own" report "$work/in.jsonl" -o "$work/in.jsonl"
expect 2 "$own" place --from "$work/in.jsonl" --ranks 3 -o "$work/in.jsonl"
expect 2 'expected the name of a file to write' logits -m "$model" --tokens 1 -o -
expect 2 '--ablation goes without --record-routing' bench -m "$austen" --ablation --record-routing "$work/x"
expect 2 '--profile: expected -o md or json, found csv' bench -m "$austen" -p 4 -n 1 --profile -o csv
printf '0 4\n4 0\n\0' >"$work/matrix"
expect 3 'matrix: byte 8: expected text, found a zero byte' alltoall --ranks 2 --matrix "$work/matrix"
echo '0 1099511627776 0 0' | tr ' ' '\n' | paste -d' ' - - >"$work/matrix"
expect 2 'give a matrix of fewer bytes' alltoall --ranks 2 --matrix "$work/matrix"

# weights that no memory is left for; a sanitizer itself maps more than this
if ! ldd "$epmoe" | grep -q 'lib[at]san'; then
    program=$epmoe
    epmoe=$work/limited
    printf '#!/bin/sh\nulimit -v 1500000\nexec %s "$@"\n' "$program" >"$epmoe"
    chmod +x "$epmoe"
    expect 1 'left (ulimit -v): ' logits -m synth:qwen1.5-7b --tokens 1 -o "$work/out.safetensors"
    expect 1 'needs 14.' run -m synth:qwen1.5-7b --tokens 1 --ids -n 1 -t 1 --ranks 3
    epmoe=$program
fi

[ -e "$work/out.safetensors" ] && {
    echo "a failed run left $work/out.safetensors behind"
    failed=$((failed + 1))
}
[ -z "$(find "$work" -name '*.part-*')" ] || {
    echo "a failed run left a partial file behind"
    failed=$((failed + 1))
}
finish
