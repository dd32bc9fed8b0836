#!/usr/bin/env bash
# The real Qwen vocabulary: ids of golden/tokenizer/strings.jsonl as Hugging Face tokenizers gives
# them, and vectors from another implementation.
#
#   tests/program/qwen_vocabulary.sh EPMOE [TEST_TOKENIZER]
#
# The vocabulary comes by pip, from the wheel of dashscope; it is not kept. Exit: 0 all passed,
# 1 something failed, 77 skipped because pip could not fetch it.
set -euo pipefail

epmoe=$(realpath "$1")
test_tokenizer=${2:+$(realpath "$2")}
cd "$(dirname "$0")/../.."
golden=$PWD/tests/golden/tokenizer
version=1.25.24

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if ! timeout 120 python3 -m pip --disable-pip-version-check download --quiet --no-deps \
    --only-binary :all: --dest "$scratch" "dashscope==$version" >"$scratch/pip.log" 2>&1; then
    echo "SKIP: pip cannot fetch dashscope==$version: $(tail -n 1 "$scratch/pip.log")"
    exit 77
fi
python3 -m zipfile -e "$scratch"/dashscope-*.whl "$scratch/wheel"
mkdir "$scratch/qwen"
python3 tools/qwen_tokenizer.py "$scratch/wheel/dashscope/resources/qwen.tiktoken" \
    "$scratch/qwen/tokenizer.json"

failures=0
# check NAME EXPECTED FOUND: two files of JSON arrays, a line each
check() {
    if diff <(tr -d ' ' <"$2") <(tr -d ' ' <"$3") >"$scratch/diff"; then
        echo "PASS: $1: $(wc -l <"$2") strings"
    else
        echo "FAIL: $1"
        head -n 6 "$scratch/diff"
        failures=$((failures + 1))
    fi
}

"$epmoe" tokenize -m "$scratch/qwen" --jsonl <"$golden/strings.jsonl" >"$scratch/ids"
check "ids of tokenizers" "$golden/qwen.jsonl" "$scratch/ids"

# Made with @huggingface/tokenizers 0.2.0 (JavaScript), by tab: a JSON string, its ids.
cat >"$scratch/vectors" <<'VECTORS'
"Hello world"	[9707,1879]
" Hello world"	[21927,1879]
"To be or not to"	[1249,387,476,537,311]
"12345 67"	[16,17,18,19,20,220,21,22]
"你好，世界"	[108386,3837,99489]
"->"	[405]
"(x):\n"	[2075,982]
"  multiple   spaces\n\n\tTab"	[220,5248,256,12621,271,197,8582]
"I'm DON'T we'LL"	[40,2776,44273,17323,582,6,4086]
"a\r\nb \r\n c"	[64,319,65,2529,272]
"é vs e\u0301"	[963,6165,3958]
"😀🏳️‍🌈"	[141334,147233,30543,378,235,145354]
"١٢٣ ⅷ ½"	[149,94,149,95,149,96,220,70467,115,220,26062]
"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"	[151644,8948,198,2610,525,264,10950,17847,13,151645,198,151644,872,198,14990,151645,198,151644,77091,198]
VECTORS
cut -f1 "$scratch/vectors" | "$epmoe" tokenize -m "$scratch/qwen" --jsonl >"$scratch/ids"
cut -f2 "$scratch/vectors" >"$scratch/expected"
check "vectors of another implementation" "$scratch/expected" "$scratch/ids"

if [ -n "$test_tokenizer" ]; then
    "$test_tokenizer" "$scratch/qwen/tokenizer.json" "$golden/qwen.jsonl" || failures=$((failures + 1))
fi
exit $((failures > 0))
