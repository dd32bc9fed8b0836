#!/usr/bin/env bash
# A tokenizer whose post-processor puts <s> before a text: every text that is a prompt begins with it,
# and token ids are taken as they are. A word after a prompt keeps its space.
#   tests/program/prompt_start.sh build/ci/epmoe
. "$(dirname "$0")/../rig/begin.sh"
export OMP_WAIT_POLICY=passive

# A model with a vocabulary of 100, and a tokenizer whose words are " w3", " w4" and so on.
model=$work/model
cp -r tests/golden/models/mixtral-published "$model"
python3 - "$model/tokenizer.json" <<'PY'
import json, sys

vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 5, "a": 6, "▁a": 8}
vocab |= {f"▁w{i}": i for i in range(100) if i not in vocab.values()}
flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
start, text = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
json.dump({
    "version": "1.0",
    "added_tokens": [{"id": i, "content": t, **flags} for i, t in enumerate(["<unk>", "<s>", "</s>"])],
    "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
    "post_processor": {"type": "TemplateProcessing", "single": [start, text], "pair": [],
                       "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
    "decoder": {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
              "vocab": vocab, "merges": ["▁ a"]},
}, open(sys.argv[1], "w"))
PY

same() { # what, expected, found
    [ "$2" = "$3" ]
    result $? "$1: expected \"$2\", found \"$3\""
}

same "tokenize" "1 8" "$("$epmoe" tokenize -m "$model" -p a)"
same "tokenize --decode" "<s> a" "$(echo 1 8 | "$epmoe" tokenize -m "$model" --decode)"
ids=$("$epmoe" run -m "$model" --tokens 1,8 -n 8 -q --ids --ignore-eos)
same "run -p" "$ids" "$("$epmoe" run -m "$model" -p a -n 8 -q --ids --ignore-eos)"
[ "$ids" != "$("$epmoe" run -m "$model" --tokens 8 -n 8 -q --ids --ignore-eos)" ]
result $? "run --tokens without <s>: expected other tokens, found \"$ids\""
printf '%s\n' '{"id": "text", "prompt": "a"}' '{"id": "ids", "prompt": [1, 8]}' >"$work/in"
"$epmoe" batch -m "$model" -i "$work/in" -o "$work/out" -n 8 2>"$work/stderr"
same "batch" "1" "$(python3 -c '
import json, sys
print(len({json.loads(line)["text"] for line in open(sys.argv[1])}))' "$work/out")"

# The words of the new tokens, each with its space, after the prompt's; alone, the first has none.
words() { # the text of ids, as this vocabulary has them
    for id in $1; do
        case $id in 0 | 1 | 2) ;; 5) printf ' ' ;; 6) printf a ;; 8) printf ' a' ;; *) printf ' w%d' "$id" ;; esac
    done
}
same "run's text" "a$(words "$ids")" "$("$epmoe" run -m "$model" -p a -n 8 -q --ignore-eos)"
ids=$("$epmoe" run -m "$model" --tokens 1 -n 8 -q --ids --ignore-eos)
text=$(words "$ids")
same "a text from its beginning" "${text# }" "$("$epmoe" run -m "$model" -p '' -n 8 -q --ignore-eos)"

# An answer to messages is a message of its own: its first word has no space, whatever the prompt's text.
echo '{"tokenizer_class": "LlamaTokenizerFast", "chat_template": "{{ messages[-1].content }}"}' \
    >"$model/tokenizer_config.json"
chat=(run -m "$model" --chat -p a -n 8 -q --ignore-eos)
text=$(words "$("$epmoe" "${chat[@]}" --ids)")
[ "$text" != "${text# }" ]
result $? "the answer's ids: expected a first word with a space, found \"$text\""
same "run --chat" "${text# }" "$("$epmoe" "${chat[@]}")"
echo '{"messages": [{"role": "user", "content": "a"}], "ignore_eos": true}' >"$work/in"
"$epmoe" batch -m "$model" -i "$work/in" -o "$work/answer" -n 8 2>"$work/stderr"
same "batch of messages" "${text# }" "$(python3 -c '
import json, sys
print(json.load(open(sys.argv[1]))["text"])' "$work/answer")"
finish
